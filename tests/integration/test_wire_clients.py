"""Every case of the corpus on a real socket, through the proxy, read right by every client.

Each client reads all of its cases from one proxy; then each reading is judged. The table stands at the end of the run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from sseproxy.core.normalize import Dialect
from sseproxy.middleware.normalize import NormalizeMiddleware
from sseproxy.upstream.app import UpstreamApp
from tests.harness import NODE_CLIENTS, Reading, Upstream, read_with_node, read_with_python, serve, waitress_thread
from tests.harness.typed_sdks import TYPED_CLIENTS, read_typed, require_anthropic
from tests.wire.cases import Case, load_cases
from tests.wire.judging import misread
from tests.wire.serving import request_of, serve_cases

from .books import KEY, PRICE, config
from .conftest import READ_RIGHT

Urls = dict[str, str]
AT_ONCE = 8
CASES = load_cases()
HELPERS = ("openai-python stream", "openai-node-stream")
"""Clients that show a whole answer or an error."""


def wants_custom_tools(case: Case) -> bool:
    return any(call["type"] == "custom" for call in case.facts["expect"]["tool_calls"])


UNABLE = {
    # Both helpers know no tools but functions, whoever sends them.
    "openai-python stream": (wants_custom_tools,),
    "openai-node-stream": (wants_custom_tools,),
    # Nor does the AI SDK.
    "ai-sdk": (wants_custom_tools,),
}
"""What a client cannot be asked for."""


def cases_for(client: str, api: str = "chat") -> list[Case]:
    """The cases that a client can be asked to read."""
    return [case for case in CASES if case.api == api and not any(cannot(case) for cannot in UNABLE.get(client, ()))]


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Urls]:
    """One proxy before an upstream that answers with the case that the model names."""
    # Many cases are failures, which are told alike however often they are tried.
    sections = {"models": {"*": {"price": PRICE}}, "upstream": {"retries": 0}}
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(Upstream(serve_cases(CASES)))
        proxy = stack.enter_context(serve(config(upstream.url, tmp_path_factory.mktemp("wire"), **sections)))
        urls = {case.name: f"{proxy.url}/v1" for case in CASES}
        for case in CASES:
            if "dialect" in case.facts:
                app = NormalizeMiddleware(UpstreamApp(upstream.url), dialects={"": Dialect(**case.facts["dialect"])})
                urls[case.name] = f"{stack.enter_context(waitress_thread(app, threads=4)).url}/v1"
        yield urls


def read_all(cases: list[Case], read: Callable[[Case], Reading]) -> list[Reading]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(read, cases))


@pytest.fixture
def check(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Judge what a client has read, and note it for the table."""

    def check(client: str, cases: list[Case], readings: list[Reading], **shows: Any) -> None:
        wrong = {case.name: misread(case, reading, **shows) for case, reading in zip(cases, readings, strict=True)}
        wrong = {name: what for name, what in wrong.items() if what}
        table = request.config.stash.setdefault(READ_RIGHT, {})
        table[client] = (len(cases) - len(wrong), len(cases))
        assert not wrong, "\n" + "\n".join(f"{name}: {what}" for name, what in wrong.items())

    return check


@pytest.mark.parametrize("client", ["create", "stream", "async"])
def test_openai_python_reads_every_chat_case(client: str, urls: Urls, check: Callable[..., None]) -> None:
    name = f"openai-python {client}"
    cases = cases_for(name)
    readings = read_all(cases, lambda case: read_with_python(client, urls[case.name], request_of(case), KEY))

    check(name, cases, readings, final=name in HELPERS)


def test_openai_python_reads_every_chat_case_that_it_did_not_want_streamed(
    urls: Urls, check: Callable[..., None]
) -> None:
    name = "openai-python create, stream: false"
    cases = cases_for(name)
    readings = read_all(
        cases, lambda case: read_with_python("create", urls[case.name], request_of(case, stream=False), KEY)
    )

    check(name, cases, readings, final=True)


@pytest.fixture(scope="module")
def node(urls: Urls) -> dict[str, list[Reading]]:
    """What the Node.js clients read, all with one start of it."""
    asked = [(client, case) for client in NODE_CLIENTS for case in cases_for(client)]
    readings = read_with_node(((client, urls[case.name], request_of(case)) for client, case in asked), KEY)
    found: dict[str, list[Reading]] = {client: [] for client in NODE_CLIENTS}
    for (client, _), reading in zip(asked, readings, strict=True):
        found[client].append(reading)
    return found


@pytest.mark.parametrize("client", NODE_CLIENTS)
def test_node_clients_read_every_chat_case(
    client: str, node: dict[str, list[Reading]], check: Callable[..., None]
) -> None:
    shows = "common" if client == "ai-sdk" else "all"

    check(client, cases_for(client), node[client], final=client in HELPERS, shows=shows)


@pytest.mark.parametrize("client", TYPED_CLIENTS)
def test_typed_and_legacy_streams_are_read_by_their_sdks(client: str, urls: Urls, check: Callable[..., None]) -> None:
    if "anthropic" in client:
        require_anthropic()
    cases = cases_for(client, TYPED_CLIENTS[client][0])
    readings = read_all(cases, lambda case: read_typed(client, urls[case.name], request_of(case), KEY))

    check(client, cases, readings, final="stream" in client)
