"""The app-facing routes of the configuration, and which of them a path is.

Paths are matched as they are: no redirect, no slash added, dropped or merged, and none of the proxy's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule

from sseproxy.config import Prompt
from sseproxy.config import Route as RouteSection
from sseproxy.core.inputs import Inputs
from sseproxy.core.prompt import Prefix
from sseproxy.core.route import Route

RESERVED: Final = ("/v1/", "/-/", "//")
"""OpenAI's API and the proxy's own paths, in any spelling: a pattern that begins with a variable does not take them."""


class Routes:
    """Finds the route of a path.

    :param sections: the section ``routes``.
    :param prompt: the section ``prompt``, for what a route's own prompt leaves open.
    """

    def __init__(self, sections: Mapping[str, RouteSection], prompt: Prompt) -> None:
        routes = [_route(pattern, section, prompt) for pattern, section in sections.items()]
        self._routes = {route.pattern: route for route in routes}
        # Werkzeug hashes endpoints, which not every route's format can be.
        rules = [Rule(pattern, endpoint=pattern) for pattern in self._routes]
        self._map = Map(rules, strict_slashes=True, merge_slashes=False, redirect_defaults=False)
        self._adapter = self._map.bind("localhost")

    def match(self, path: str) -> tuple[Route, dict[str, str]] | None:
        """The route of a path and the values of its variables; None if the path is no route.

        :param path: ``PATH_INFO`` as servers hand it on: bytes as Latin-1 (PEP 3333).
        """
        if not self._routes or not path.startswith("/") or path.startswith(RESERVED):
            return None
        try:
            pattern, variables = self._adapter.match(path.encode("latin-1").decode(), method="GET")
        except (HTTPException, UnicodeError):  # a redirect to the path with a slash at its end is an HTTPException too
            return None
        values: Mapping[str, Any] = variables
        return self._routes[pattern], {name: str(value) for name, value in values.items()}

    def is_public(self, path: str) -> bool:
        """Whether no credentials are asked for at this path."""
        found = self.match(path)
        return found is not None and found[0].public

    def pattern(self, path: str) -> str:
        """The pattern of a path that is a route, else the path: a variable may hold what must not be logged."""
        found = self.match(path)
        return path if found is None else found[0].pattern


def _route(pattern: str, section: RouteSection, prompt: Prompt) -> Route:
    prefix = None
    if (own := section.prompt) is not None:
        prefix = Prefix(own.prefix, own.role or prompt.role, own.client_system or prompt.client_system)
    return Route(
        pattern=pattern,
        methods=section.methods,
        model=section.model,
        prefix=prefix,
        inputs=Inputs(section.input.message, section.input.messages, section.input.path),
        format=section.format.build(),
        public=not section.auth,
    )
