"""Usage beside a choice on the straight way: with the finish, or with every chunk, each then telling all so far."""

from __future__ import annotations

from functools import partial
from typing import Any, Final, NamedTuple

import msgspec

from sseproxy.core.chunk import REPEATED, UsageEvent, write_json
from sseproxy.core.normalize.counts import read_again
from sseproxy.core.normalize.strict import Strict
from sseproxy.core.shape import ReadUsage
from sseproxy.core.shapes import Shapes
from sseproxy.core.usage import TotalAlone, Usage, find_usage, usage_of
from sseproxy.core.usage_so_far import merge_usage

__all__ = ["UsageBeside", "merged", "usage_beside"]

_decode: Final = msgspec.json.Decoder().decode


class _Said(NamedTuple):
    """Of one chunk.

    :param counts: in OpenAI's shape.
    :param repeated: what stands beside it as in any other chunk.
    """

    counts: dict[str, Any]
    repeated: dict[str, Any]
    usage: Usage


class UsageBeside:
    """What an answer's chunks have said of usage beside their choice: each since the first that did.

    :param shapes: know of the chunks that are not read here.
    :param fold: see :func:`~sseproxy.core.usage.tidy_usage`.
    :ivar usage: what the chunk says that was taken up last, for the meter.
    """

    usage: Usage | None = None
    _known: _Said | None = None

    def __init__(self, shapes: Shapes, fold: bool) -> None:
        self._shapes = shapes
        self._fold = fold

    def take(self, data: bytes, body: Strict, *, ends: bool = False) -> bool:
        """Take up what another chunk says; False if that is not all that is known by then, or not said by each.

        :param body: what was read of it.
        :param ends: the finish is all that it says.
        """
        says_usage = body.says_usage()
        if not says_usage and self._known is None and self._shapes.reported is None:
            return True
        if self._shapes.reported is not None:
            reported, usage = self._shapes.reported
            read = _said_in(reported, self._fold)
            self._known = read and read._replace(usage=usage)
        known = self._known
        said = _said_in(data, self._fold) if says_usage else None
        if said is None:
            self.usage = None
            return ends
        if (known is not None and not _replaces(said, known)) or not (ends or type(said.usage) is not TotalAlone):
            return False
        self._known, self.usage = said, said.usage
        return True

    def last(self, own: dict[str, Any]) -> UsageEvent | None:
        """Return a chunk with what is known by the one that was taken up last.

        :param own: the fields that say whose it is.
        """
        return None if self._known is None else _alone(self._known, own)

    def reads(self) -> ReadUsage | None:
        """What reads the usage in chunks like the one that was taken up last, if that has any."""
        return None if self._known is None else partial(read_again, like=self._known.counts, fold=self._fold)


def usage_beside(data: bytes, own: dict[str, Any], *, fold: bool) -> UsageEvent | None:
    """Return a chunk with the usage that stands beside a choice; None if that says nothing.

    :param own: as of :class:`UsageBeside`, as is `fold`.
    """
    said = _said_in(data, fold)
    return None if said is None else _alone(said, own)


def merged(usage: UsageEvent, known: UsageEvent) -> UsageEvent | None:
    """Return a chunk with usage alone with what is known after it; None if it does not say all that stood beside.

    :param known: what is known before it.
    """
    body = _decode(usage.data)
    if not _decode(known.data).keys() <= body.keys():
        return None
    if usage.told == known.told:
        return usage
    counts = merge_usage(_decode(known.told), body["usage"])
    assert counts is not None
    usage.usage, usage.told = usage_of(counts), write_json(counts)
    usage.data = write_json({**body, "usage": msgspec.Raw(usage.told)})
    return usage


def _said_in(data: bytes, fold: bool) -> _Said | None:
    body = _decode(data)
    counts = find_usage(body, fold=fold)
    if counts is None:
        return None
    return _Said(counts, {name: body[name] for name in REPEATED if name in body}, usage_of(counts))


def _alone(said: _Said, own: dict[str, Any]) -> UsageEvent:
    told = write_json(said.counts)
    data = write_json({**own, **said.repeated, "choices": [], "usage": msgspec.Raw(told)})
    return UsageEvent(data, "", None, None, True, "", "", said.usage, told=told)


def _replaces(said: _Said, known: _Said) -> bool:
    """Whether nothing of what is known stays, for all of it is said anew."""
    is_alike = [*known.counts] == [*said.counts] and known.repeated.keys() == said.repeated.keys()
    return is_alike and merge_usage(known.counts, said.counts) == said.counts
