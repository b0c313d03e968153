"""An app-facing route: a path of its own with its model, its prefix, what it reads and how it answers. Pure data."""

from __future__ import annotations

from dataclasses import dataclass, field

from sseproxy.core.formats import Format
from sseproxy.core.inputs import Inputs
from sseproxy.core.prompt import Prefix


@dataclass(frozen=True, slots=True)
class Route:
    """One route.

    :param pattern: the path, with ``<name>`` for what differs; stands in logs and books for every path it matches.
    :param methods: those it takes, ``GET`` and ``POST``.
    :param model: what is asked; None: the client names it.
    :param prefix: beats every other; None: the one that applies anyway.
    :param format: how clients get the events; None: as OpenAI's.
    :param public: no credentials are asked for.
    """

    pattern: str
    methods: tuple[str, ...] = ("GET", "POST")
    model: str | None = None
    prefix: Prefix | None = None
    inputs: Inputs = field(default_factory=Inputs)
    format: Format | None = None
    public: bool = False
