"""Each client of the field reads a whole answer to the letter; it is asked for and charged once."""

from __future__ import annotations

import pytest

from tests.harness import PATIENCE, Page, Upstream, raw
from tests.integration.books import Books

from .site import OWN_RECONNECT, PLACES, Site, chunks, options, tale

TEXTS = tale(40)


@pytest.mark.parametrize(("place", "reader"), PLACES)
def test_the_answer_is_read_whole(page: Page, reader: str, site: Site, upstream: Upstream, books: Books) -> None:
    upstream.script = raw(chunks(TEXTS), interval=0.002)
    reading = page.run(f"return await read({options(site, reader)}).whole")

    assert (reading["text"], reading["errors"]) == ("".join(TEXTS), [])
    assert reading["end"] == ("closed" if reader == "fetch of plain text" else "done")
    assert reading["names"] == ["message"]
    charge = books.one_ended()
    assert (charge["outcome"], charge["output_tokens"], len(upstream.exchanges)) == ("completed", len(TEXTS), 1)


@pytest.mark.parametrize("place", ["chromium", "node"])
def test_who_does_not_close_at_the_end_is_told_once_that_there_is_no_more(
    place: str, page: Page, site: Site, upstream: Upstream, books: Books
) -> None:
    upstream.script = raw(chunks(TEXTS))
    # The polyfill over Node's fetch takes a 204 for a lost connection: it reads the body, which is null.
    readers = [
        each for where, each in PLACES if where == place and each in OWN_RECONNECT - {"polyfill" * (place == "node")}
    ]
    asked = [options(site, reader, close=False, who=f"{number}-") for number, reader in enumerate(readers)]
    running = [page.start(f"const one = read({each}); await one.hasGivenUp; return one") for each in asked]
    readings = [each.result(PATIENCE) for each in running]

    for number, reading in enumerate(readings):
        assert (reading["text"], reading["end"]) == ("".join(TEXTS), "done")
        statuses = [seen.status for seen in site.requests if f"who={number}-" in seen.query]
        assert statuses == [200, 204], readers[number]
    assert len(upstream.exchanges) == len(books.charges()) == len(readers)
