"""What a user installs: the wheel, its metadata and what it carries."""

from __future__ import annotations

import email
import os
import re
import shutil
import subprocess
import sys
import zipfile
from email.message import Message
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "CHANGELOG.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel built from a source distribution, and that from a copy, so that nothing is left in the tree."""
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "sseproxy", copy / "sseproxy", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for name in SOURCES:
        shutil.copy(ROOT / name, copy)
    command = [sys.executable, "-m", "build", "--outdir", str(out), str(copy)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert built.returncode == 0, built.stderr
    return zipfile.ZipFile(next(out.glob("*.whl")))


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return email.message_from_bytes(wheel.read(name))


def test_the_wheel_carries_every_module_and_data_file_of_the_package(wheel: zipfile.ZipFile) -> None:
    there = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "sseproxy").rglob("*")
        if path.is_file() and path.suffix not in {".pyc", ".c", ".so"}
    }

    assert there <= set(wheel.namelist())
    assert "sseproxy/py.typed" in wheel.namelist()


def test_the_wheel_carries_nothing_but_the_package(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}

    assert {top for top in tops if not top.endswith(".dist-info")} == {"sseproxy"}


@pytest.mark.skipif(shutil.which("cc") is None, reason="missing part: a C compiler")
def test_the_wheel_carries_the_express_built(wheel: zipfile.ZipFile) -> None:
    built = [name for name in wheel.namelist() if name.startswith("sseproxy/wsgi/express") and name.endswith(".so")]

    assert len(built) == (sys.platform == "linux")


def test_without_a_compiler_there_is_a_wheel_all_the_same(tmp_path: Path) -> None:
    copy = tmp_path / "source"
    copy.mkdir()
    shutil.copytree(ROOT / "sseproxy", copy / "sseproxy", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for name in SOURCES:
        shutil.copy(ROOT / name, copy)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "--wheel-dir", str(tmp_path), str(copy)]
    subprocess.run(command, check=True, capture_output=True, timeout=110, env={**os.environ, "CC": "/nowhere/cc"})

    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    assert "sseproxy/wsgi/relay.py" in names
    assert not [name for name in names if name.endswith(".so")]


def test_the_wheel_carries_the_migrations(wheel: zipfile.ZipFile) -> None:
    assert any(re.match(r"sseproxy/ledger/migrations/versions/.+\.py", name) for name in wheel.namelist())


def test_the_version_is_the_packages_own_and_heads_the_changelog(metadata: Message) -> None:
    source = (ROOT / "sseproxy" / "_version.py").read_text("utf-8")
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")

    assert f'__version__ = "{metadata["Version"]}"' in source
    assert re.search(rf"^## \[({re.escape(metadata['Version'])}|Unreleased)\]", changelog, re.M)


def test_the_metadata_names_python_the_licence_and_the_extras(metadata: Message) -> None:
    assert metadata["Requires-Python"] == ">=3.10"
    assert metadata["License"] == "MIT"
    assert set(metadata.get_all("Provides-Extra", [])) == {"gunicorn", "postgres", "redis", "otel", "test", "dev"}


def test_every_requirement_has_a_lower_bound_or_is_for_development(metadata: Message) -> None:
    requirements = metadata.get_all("Requires-Dist", [])

    assert [line for line in requirements if ">=" not in line and 'extra == "dev"' not in line] == []


def test_the_command_is_installed(wheel: zipfile.ZipFile) -> None:
    name = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))

    assert "sseproxy = sseproxy.cli:main" in wheel.read(name).decode()


def test_the_readme_is_a_page_and_its_links_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in link]

    assert text.count("\n") <= 150
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_lock_of_the_test_clients_names_no_registry() -> None:
    assert '"resolved"' not in (ROOT / "tests" / "clients" / "package-lock.json").read_text("utf-8")
