"""Which databases the books can live in."""

from __future__ import annotations

import sys

import pytest

from sseproxy.ledger.engine import is_in_memory, new_engine, sane_url


@pytest.mark.parametrize(
    "url", ["mysql://localhost/x", "usage.db", "", "http://x", "postgresql+asyncpg://h/n", "sqlite+aiosqlite://"]
)
def test_an_unusable_url_says_what_is_expected(url: str) -> None:
    with pytest.raises(ValueError, match="expected sqlite:///FILE or postgresql://HOST/NAME"):
        sane_url(url)


@pytest.mark.parametrize("url", ["postgresql:/me:hunter2@db/books", "postgresql://me:hunter@2:hunter2@db/books"])
def test_an_unreadable_url_does_not_show_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="not a database URL") as caught:
        sane_url(url)

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_name_of_postgresql_means_psycopg_3(scheme: str) -> None:
    assert sane_url(f"{scheme}://localhost/books").drivername == "postgresql+psycopg"


def test_a_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.delitem(sys.modules, "sseproxy.ledger.postgresql", raising=False)

    with pytest.raises(RuntimeError, match=r"sseproxy\[postgres\]"):
        new_engine(sane_url("postgresql://localhost/books"))


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_books_without_a_file_are_in_memory(url: str) -> None:
    assert is_in_memory(sane_url(url))
    assert not is_in_memory(sane_url("sqlite:///usage.db"))
