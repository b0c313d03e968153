"""The whole configuration: its sections, and how it is loaded. A new section is one file and one line here.

What a section means to the proxy may not go in here: :mod:`sseproxy.stack` hands plain values to constructors.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, PrivateAttr, ValidationError

from sseproxy.config.accounting import Accounting
from sseproxy.config.allowance import Defaults
from sseproxy.config.auth import Auth
from sseproxy.config.builtin import BUILT_IN_NAME, DEMO_KEY, DEMO_WSGI
from sseproxy.config.cors import Cors
from sseproxy.config.dashboard import Dashboard
from sseproxy.config.environment import Environment
from sseproxy.config.explain import explain
from sseproxy.config.limits import Limits
from sseproxy.config.log import Log
from sseproxy.config.metrics import Metrics
from sseproxy.config.models import Model, find_model
from sseproxy.config.patterns import check_routes
from sseproxy.config.problem import ConfigError, Problem
from sseproxy.config.prompt import Prompt
from sseproxy.config.references import check_plain_keys, check_references, check_secret_length, check_unreached
from sseproxy.config.routes import Route
from sseproxy.config.section import Section
from sseproxy.config.server import Server, normal_address
from sseproxy.config.source import Source, find
from sseproxy.config.streams import Streams
from sseproxy.config.tracing import Tracing
from sseproxy.config.upstreams import Upstream
from sseproxy.config.users import User, hash_key
from sseproxy.config.values import Expected
from sseproxy.config.wrap import Wrap

#: Sections whose keys are names that the file's writer chooses.
_NAMED = ("upstreams", "models", "users", "routes")
EMPTY: Final = "there is nothing in this file: every key has its default, and it names no user"


def _names(entries: dict[str, Any]) -> dict[str, Any]:
    """Names end up in headers, logs and reports."""
    for name in entries:
        if not name.strip() or len(name) > 200 or not name.isprintable():
            raise Expected("expected names of 1 to 200 printable characters")
    return entries


Named = AfterValidator(_names)


class Config(Section):
    """The configuration. Make one with :meth:`load`: only then is everything checked."""

    server: Server = Field(default_factory=Server, description="Where the proxy listens and how much it takes on.")
    upstreams: Annotated[dict[str, Upstream], Named] = Field(
        default_factory=lambda: {"demo": Upstream(wsgi=DEMO_WSGI)}, description="Where answers come from."
    )
    models: Annotated[dict[str, Model], Named] = Field(
        default_factory=lambda: {"*": Model()},
        description="What clients may ask for; the first pattern that matches wins.",
    )
    auth: Auth = Field(default_factory=Auth, description="Who is let in.")
    users: Annotated[dict[str, User], Named] = Field(default_factory=dict, description="Who is billed.")
    defaults: Defaults = Field(default_factory=Defaults, description="What users have who do not stand in `users`.")
    prompt: Prompt = Field(default_factory=Prompt, description="What goes before the client's messages.")
    routes: dict[str, Route] = Field(default_factory=dict, description="Paths of your own, GET and POST.")
    wrap: Wrap = Field(default_factory=Wrap, description="Paths of a wrapped application that answer in its own shape.")
    accounting: Accounting = Field(default_factory=Accounting, description="Where the books are.")
    limits: Limits = Field(default_factory=Limits, description="Where limits are counted.")
    streams: Streams = Field(default_factory=Streams, description="Running answers.")
    cors: Cors = Field(default_factory=Cors, description="Which web pages may read answers.")
    log: Log = Field(default_factory=Log, description="What is written to standard error.")
    metrics: Metrics = Field(default_factory=Metrics, description="What Prometheus is told.")
    tracing: Tracing = Field(default_factory=Tracing, description="What OpenTelemetry is told.")
    dashboard: Dashboard = Field(default_factory=Dashboard, description="The page that shows an admin the books.")

    _source: str = PrivateAttr("configuration")
    _file: str | None = PrivateAttr(None)
    _is_empty: bool = PrivateAttr(False)
    # Whether only this machine can connect is not settled yet: see `listening_on`.
    _warnings: dict[bool, tuple[Problem, ...]] = PrivateAttr(default_factory=dict)

    @classmethod
    def load(cls, source: str | os.PathLike[str] | Mapping[str, Any] | Config | None = None) -> Config:
        """Read and check a configuration.

        :param source: a file, or the same as a mapping, or a ``Config`` (returned as it is). None:
            ``$SSEPROXY_CONFIG``, else ``./config.yaml``, else the built-in demo configuration.
        :raises ConfigError: with every problem there is.
        """
        if isinstance(source, Config):
            return source
        found = find(source)
        environment = Environment(os.environ, found)
        data = _filled(environment.expand(found.data))
        problems = [
            *found.problems, *environment.problems, *check_references(data, found), *check_routes(data, found)
        ]  # fmt: skip
        config = None
        try:
            config = cls.model_validate(data, context={"directory": found.directory})
        except ValidationError as error:
            problems += explain(error, found, cls, environment.failed)
        if problems or config is None:
            raise ConfigError(problems)
        return config._loaded_from(found)

    def _loaded_from(self, found: Source) -> Config:
        self._source = found.name
        self._file = found.file
        self._is_empty = found.is_empty
        given = self.auth.jwt.secret if self.auth.jwt is not None else None
        short = [*check_secret_length(given.get_secret_value(), found)] if given is not None else []
        empty = [Problem(found.name, None, "", EMPTY)] if found.is_empty else []
        others = [*short, *check_unreached(found.data, found)]
        self._warnings = {
            local: (*empty, *check_plain_keys(found.data, found, local), *others) for local in (True, False)
        }
        return self

    @property
    def source(self) -> str:
        """The file this came from, or words that say what it is instead."""
        return self._source

    @property
    def file(self) -> str | None:
        """The absolute name of the file this came from, if it came from one."""
        return self._file

    @property
    def is_built_in(self) -> bool:
        """Whether this is the demo, for want of any configuration."""
        return self._source == BUILT_IN_NAME

    @property
    def is_empty(self) -> bool:
        """Whether this came from a file with nothing in it but comments."""
        return self._is_empty

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What works but should not stay."""
        return self._warnings.get(self.server.is_local, ())

    @property
    def has_limits(self) -> bool:
        """Whether anybody's requests are to be counted."""
        return bool(self.defaults.limits or any(user.limits for user in self.users.values()))

    def listening_on(self, address: str) -> Config:
        """The same configuration with another ``server.listen``.

        :raises Expected: if the address is none.
        """
        server = self.server.model_copy(update={"listen": normal_address(address)})
        return self.model_copy(update={"server": server})

    @property
    def demo_model(self) -> str | None:
        """A model that :data:`DEMO_KEY` may ask for and that the built-in demo answers; None if this is no demo."""
        if not any(hash_key(DEMO_KEY) in user.keys for user in self.users.values()):
            return None
        for name in ("demo", *self.models):
            found = find_model(self.models, name)
            if found and self.upstream_of(found[1]).wsgi == DEMO_WSGI:
                return name
        return None

    def upstream_of(self, model: Model) -> Upstream:
        """The upstream that answers for ``model``."""
        return self.upstreams[self.upstream_name(model)]

    def upstream_name(self, model: Model) -> str:
        """The name of the upstream that answers for ``model``: the first one unless it says otherwise."""
        return model.upstream[0].name if model.upstream else next(iter(self.upstreams))


def _filled(data: dict[str, Any]) -> dict[str, Any]:
    """An entry or section with nothing in it, as when all of it is commented out, has its defaults."""
    filled = {key: value for key, value in data.items() if value is not None or key not in Config.model_fields}
    for section in _NAMED:
        entries = filled.get(section)
        if isinstance(entries, dict):
            filled[section] = {name: {} if each is None else each for name, each in entries.items()}
    return filled
