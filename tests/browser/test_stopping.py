"""Who presses "stop" stops the upstream, at once, and pays for what was made until then."""

from __future__ import annotations

import pytest

from tests.harness import Page, Upstream, raw
from tests.integration.books import AT_ONCE, Books

from .site import DIRECT, PLACES, Site, chunks, options, tale

SENT = 5


@pytest.mark.parametrize(("place", "reader"), PLACES)
def test_stop_hangs_up_on_the_upstream(page: Page, reader: str, site: Site, upstream: Upstream, books: Books) -> None:
    upstream.script = raw(chunks(tale(40))[:SENT], end="hang")
    asked = options(site, reader)
    page.run(f"globalThis.one = read({asked}); await one.has(1)")
    upstream.last.wait_for_sent(SENT)
    status = page.run(f"return await one.stop({asked})")

    assert status == (None if reader in DIRECT else 204)
    upstream.last.wait_for_peer_close(AT_ONCE)
    charge = books.one_ended()
    assert (charge["outcome"], charge["usage_source"]) == ("client_gone", "counted")
    assert len(upstream.exchanges) == 1
