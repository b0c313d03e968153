"""What of a page cannot be perceived or reached by everybody, as axe-core finds it. https://www.w3.org/TR/WCAG22/"""

from __future__ import annotations

from tests.harness import Page
from tests.harness.parts import CLIENTS, require_node_clients


def barriers(page: Page) -> list[str]:
    """Each rule that the page breaks as it is now, and where; none is as it should be."""
    require_node_clients("axe-core")
    axe = (CLIENTS / "node_modules" / "axe-core" / "axe.min.js").read_text()
    found: list[str] = page.run(f"""{axe}
      const {{violations}} = await axe.run();
      return violations.flatMap(({{id, nodes}}) => nodes.map(({{target}}) => `${{id}}: ${{target}}`));""")
    return found
