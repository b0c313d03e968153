"""The rules of the code about itself: what may import what, and how long a file and a function may be."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "sseproxy"
FILES = sorted(PACKAGE.rglob("*.py"))

# Which parts of the package each part may import, besides itself. A part that is missing here fails the test.
OUTER = {"config", "prices", "tokenizer", "models", "times", "users", "access", "app", "endpoints", "probe", "listing"}
OUTER |= {"lasting", "stack"}
OUTER |= {"routes", "upstreams"}
OUTER |= {"metrics", "telemetry"}
MIDDLE = {"core", "wsgi", "middleware", "upstream", "ledger", "streams", "demo", "web"} | OUTER
ALLOWED: dict[str, set[str]] = {
    "_version": set(),
    "core": set(),
    "hangup": set(),
    "redis_driver": {"core.outage"},
    "wsgi": {"core"},
    "middleware": {"core", "wsgi", "ledger.protocol", "streams.protocol", "redis_driver"},
    "upstream": {"core", "wsgi"},
    "ledger": {"core", "wsgi"},
    "streams": {"core", "redis_driver"},
    "demo": {"core.failure"},
    "web": {"core", "wsgi", "middleware.credentials"},
    "doctor": {"core"},
    **dict.fromkeys(OUTER, MIDDLE),
    "server": MIDDLE | {"_version", "hangup", ""},
    "cli": MIDDLE | {"_version", "server", "doctor", "hangup", ""},
    "": MIDDLE | {"_version"},
    "__main__": {"cli"},
}
# Third-party packages that only these parts may import; parts that are not named may import anything declared.
FOREIGN: dict[str, set[str]] = {
    "_version": set(),
    "core": {"msgspec"},
    "redis_driver": {"redis"},
    "wsgi": {"msgspec", "werkzeug"},
    "middleware": {"msgspec", "werkzeug", "jwt", "limits", "opentelemetry"},
    "upstream": {"msgspec", "werkzeug", "requests", "urllib3"},
    "ledger": {"msgspec", "werkzeug", "sqlalchemy", "alembic", "psycopg"},
    "streams": {"msgspec"},
    "demo": set(),
    "doctor": {"msgspec"},
    "web": {"werkzeug", "markupsafe"},
    "prices": {"msgspec", "genai_prices"},
    "tokenizer": {"msgspec", "splintr"},
}
ONLY_IN = {
    "genai_prices": {"prices"},
    "splintr": {"tokenizer"},
    "sqlalchemy": {"ledger"},
    "alembic": {"ledger"},
    "psycopg": {"ledger"},
    "redis": {"redis_driver"},
    "requests": {"upstream"},
    "urllib3": {"upstream"},
    "waitress": {"server"},
    "gunicorn": {"server"},
    "pydantic": {"config"},
    "click": {"cli"},
    "jwt": {"middleware"},
    "limits": {"middleware"},
    "prometheus_client": {"metrics"},
    "opentelemetry": {"middleware"},
}
LONGEST_FILE = 300
LONGEST_FUNCTION = 60
MIGRATIONS = PACKAGE / "ledger" / "migrations"


def part_of(module: str) -> str:
    """``sseproxy.core.sse`` belongs to ``core``, ``sseproxy`` to the empty part."""
    return (module.split(".") + [""])[1]


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


@cache
def imports_of(path: Path) -> list[tuple[int, str]]:
    """Line and absolute name of every module a file imports at run time, inside functions too."""
    return list(_imports(path, tree_of(path)))


def _imports(path: Path, tree: ast.Module) -> Iterator[tuple[int, str]]:
    typing_only = {id(node) for block in type_checking_blocks(tree) for node in ast.walk(block)}
    package = module_of(path) if path.name == "__init__.py" else module_of(path).rpartition(".")[0]
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] + "." if node.level else ""
            module = (base + (node.module or "")).rstrip(".")
            for alias in node.names:
                full = f"{module}.{alias.name}"
                is_module = module.startswith("sseproxy") and is_part_of_package(full)
                yield node.lineno, full if is_module else module


def type_checking_blocks(tree: ast.Module) -> Iterator[ast.If]:
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            yield node


def is_part_of_package(module: str) -> bool:
    path = ROOT.joinpath(*module.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def may_import(part: str, module: str) -> bool:
    wanted = module.removeprefix("sseproxy").lstrip(".")
    if part_of(module) == part and part:
        return True
    return any(wanted == name or (name and wanted.startswith(name + ".")) for name in ALLOWED[part])


def test_a_part_imports_only_what_the_design_allows_it() -> None:
    parts = {part_of(module_of(path)) for path in FILES}
    assert parts <= set(ALLOWED), "a new part: say in ALLOWED what it may import"
    bad = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in FILES
        for line, module in imports_of(path)
        if module.split(".")[0] == "sseproxy" and not may_import(part_of(module_of(path)), module)
    ]

    assert not bad


def test_a_library_is_imported_only_by_the_parts_that_own_it() -> None:
    foreign = [
        (path, part_of(module_of(path)), line, name)
        for path in FILES
        for line, module in imports_of(path)
        if (name := module.split(".")[0]) not in sys.stdlib_module_names and name not in ("sseproxy", "_typeshed")
    ]
    bad = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path, part, line, name in foreign
        if name not in FOREIGN.get(part, {name}) or part not in ONLY_IN.get(name, {part})
    ]

    assert not bad


def test_a_file_is_short_and_says_what_it_is() -> None:
    texts = {path.relative_to(ROOT): path.read_text("utf-8") for path in FILES}
    too_long = {str(path): lines for path, text in texts.items() if (lines := text.count("\n")) > LONGEST_FILE}
    silent = [str(path) for path, text in texts.items() if text.strip() and not ast.get_docstring(tree_of(ROOT / path))]

    assert not too_long
    assert not silent, "no module docstring"


def test_a_function_is_short() -> None:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    too_long = {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}": length
        for path in FILES
        if MIGRATIONS not in path.parents
        for node in ast.walk(tree_of(path))
        if isinstance(node, kinds) and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > LONGEST_FUNCTION
    }

    assert not too_long


def test_no_name_says_nothing() -> None:
    empty = ("util", "utils", "helper", "helpers", "manager", "common", "misc")
    named = [module_of(path) for path in FILES if set(path.stem.lower().split("_")) & set(empty)]

    assert not named


def test_every_third_party_import_is_a_declared_dependency() -> None:
    declared = (ROOT / "setup.py").read_text("utf-8").lower().replace("-", "_")
    spelled = {"yaml": "pyyaml", "splintr": "splintr_rs", "pydantic_core": "pydantic", "jwt": "pyjwt"}
    used = {module.split(".")[0] for path in FILES for _, module in imports_of(path)}
    foreign = used - set(sys.stdlib_module_names) - {"sseproxy", "_typeshed"}

    assert sorted(name for name in foreign if spelled.get(name, name) not in declared) == []


def test_msgspec_meets_every_type_while_modules_are_imported() -> None:
    """It puts together what it knows of a type at the first use, and two threads at that crash the process."""
    late = re.compile(r"^[ \t]+.*(json\.decode\(.*type=(?!msgspec\.Raw\))|json\.Decoder\(|decoder_of\(_)", re.MULTILINE)

    found = {
        str(path.relative_to(PACKAGE)): each[0]
        for path in PACKAGE.rglob("*.py")
        for each in late.finditer(path.read_text())
    }

    assert not found
