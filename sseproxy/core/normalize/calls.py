"""The calls of one choice: which of them an entry of ``tool_calls`` belongs to, and whether it only repeats it.

A call is known by its id; by its index if it has none; by its name and the completeness of the arguments before it if
it has neither. A new id at a used index is a new call (new-api#2701), but not amid arguments, nor if it is the old one
several times over; an id or a name that is repeated is not (litellm#20480), nor both at a new index, but another name
after whole arguments is, and so are other arguments after them.
Arguments without any of these belong to the last call. Nothing valid can follow a whole JSON object: the same again is
a repetition.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from hashlib import blake2b
from typing import Any, Final

__all__ = ["Call", "Calls"]

_AT_A_TIME: Final = 64
"""Pieces of arguments that are looked at together: one by one that costs as much as all else that is done with them."""


class Call:
    """One call of one choice.

    :ivar ids: those that the upstream gave it; without any, `id` is made up.
    :ivar kept: fields that came before there was a name to send them with.
    :ivar held: an empty object that all arguments began with: those that follow it may be all there are (litellm#4537).
    """

    def __init__(self, index: int, id: str) -> None:
        self.index = index
        self.id = id
        self.ids: set[str] = set()
        self.name = ""
        self.kept: dict[str, Any] | None = {}
        self.held = ""
        self.arguments = _Arguments()
        self._latest: str | None = ""

    def tell(self, arguments: str, *, may_hold: bool) -> str:
        """Take in further arguments; return what is to be said of them now."""
        if self.held and not arguments:
            return ""
        held, self.held = self.held, ""
        if held and arguments.lstrip()[:1] == "{":  # nothing valid can follow a whole object
            self.arguments, held = _Arguments(), ""
        empty = may_hold and not self.arguments.begun and arguments.strip() == "{}"
        self.arguments.feed(arguments)
        if empty:
            self.held = arguments
        return "" if empty else held + arguments

    @property
    def unfinished(self) -> bool:
        """More arguments are known to be missing."""
        return bool(self.name) and not self.arguments.complete

    def is_repeated_by(self, arguments: str) -> bool:
        """Tell whether these arguments, with its own name but without an id, are said of it again.

        Of calls that never have ids and each come in one piece, the same two are two.
        """
        return self.arguments.are(arguments) and (bool(self.ids) or not self.arguments.at_once)

    def goes_on_with(self, arguments: str) -> bool:
        """Tell whether these arguments, with its own id and name, are said of it again, or further ones."""
        if not arguments.strip() or self.arguments.are(arguments):
            return True
        return not self.arguments.complete and not (self.arguments.begun and arguments.lstrip()[:1] == "{")

    def beyond(self, arguments: str) -> str:
        """Return what cumulative arguments say beyond the last, as long as each has begun with those before."""
        latest = self._latest
        if latest is None or not arguments:
            return arguments
        self._latest = arguments if arguments.startswith(latest) else None
        return arguments if self._latest is None else arguments[len(latest) :]


class Calls:
    """The calls of one choice, in the order they were opened."""

    def __init__(self, make_id: Callable[[], str], tools: Collection[str], *, cumulative: bool) -> None:
        self.make_id = make_id
        self.tools = tools
        self.cumulative = cumulative
        self.all: list[Call] = []
        self.by_id: dict[str, Call] = {}
        self.by_index: dict[Any, Call] = {}
        self._echoes: dict[Any, Call] = {}  # calls by indexes at which they were only told again, or on

    def open(self, index: Any, id: str) -> Call:
        call = Call(len(self.all), id if id and id not in self.by_id else "call_" + self.make_id())
        self.all.append(call)
        self.by_id[call.id] = call
        if id:
            self._name(call, id)
        if index is not None:
            self.by_index[index] = call
        return call

    def begins_a_name(self, name: str) -> bool:
        """Tell whether `name` can only be the first piece of one."""
        return name not in self.tools and any(tool.startswith(name) for tool in self.tools)

    def find(self, index: Any, id: str, name: str, arguments: str, alone: bool) -> tuple[Call, bool]:
        """Return the call that an entry with these marks belongs to, and whether it opens it."""
        at = self.by_index.get(index) if index is not None else None
        if at is None and alone and (call := self._echoed(index, id, name)) is not None:
            if call.goes_on_with(arguments):
                self._echoes[index] = call
                return call, False
            another = self.open(index, id)
            another.name = call.name
            return another, True
        if id in self.by_id:
            call = at if at is not None and id in at.ids else self.by_id[id]
            differs = call.arguments.complete and name != call.name != ""
            if not name or not (differs or (index is not None and at is None)):
                return call, False
            return self.open(index, id), True
        if id:
            if at is not None and not at.ids and not (name and at.name):
                return at, False
            before = at if index is not None else self.all[-1] if self.all else None
            if before is not None and before.unfinished and (not name or _goes_on(before, index, id, name, arguments)):
                self._name(before, id)
                return before, False
            if before is not None and not name and before.arguments.are(arguments):
                return before, False
            return self.open(index, id), True
        if at is not None:
            return (self.open(index, ""), True) if _is_another(at, name, arguments) else (at, False)
        if index is not None or not self.all:
            return self.open(index, ""), True
        last = self.all[-1]
        if name and last.name and (not alone or name != last.name or last.arguments.complete):
            repeated = alone and name == last.name and last.is_repeated_by(arguments)
            return (last, False) if repeated else (self.open(None, ""), True)
        return last, False

    def _echoed(self, index: Any, id: str, name: str) -> Call | None:
        """Return the call that is named again, with its id, at an index of its own (LocalAI#9722)."""
        call = self._echoes.get(index) or (self.by_id.get(id) if index is not None and name else None)
        return call if call is not None and name in ("", call.name) and id in ("", *call.ids) else None

    def _name(self, call: Call, id: str) -> None:
        call.ids.add(id)
        self.by_id[id] = call


def _goes_on(call: Call, index: Any, id: str, name: str, arguments: str) -> bool:
    """Tell whether an entry with a new id, and a name, is a piece of an unfinished call."""
    if name != call.name:
        return False
    amid = index is not None and call.arguments.begun and arguments.lstrip()[:1] not in ("", "{")
    return amid or id == call.id * (len(id) // len(call.id))


def _is_another(call: Call, name: str, arguments: str) -> bool:
    """Tell whether an entry without an id is another call than the one at its index."""
    if not (name and call.name):
        return False
    if name != call.name:
        return call.arguments.begun
    return bool(arguments.strip()) and call.arguments.complete and not call.is_repeated_by(arguments)


class _Arguments:
    """What is known of the arguments fed so far, in constant memory.

    :ivar begun: there are some.
    :ivar at_once: the first piece was one whole JSON object.
    """

    def __init__(self) -> None:
        self.begun = False
        self.at_once = False
        self._opened = False
        self._depth = 0
        self._quoted = False
        self._escaped = False
        self._digest = blake2b()
        self._size = 0
        self._whole = b""  # the digest of the first whole object
        self._taken: list[str] = []

    @property
    def complete(self) -> bool:
        """They are one whole JSON object."""
        if self._taken:
            self.feed("")
        return self._opened and self._depth <= 0 and not self._quoted

    def are(self, text: str) -> bool:
        """Tell whether `text` is all of them, and they are complete."""
        return self.complete and len(text) == self._size and _digest_of(text) == self._whole

    def take(self, text: str) -> bool:
        """Feed what cannot complete them, at some time; False, and nothing is fed, if it might."""
        if "}" in text or "]" in text:
            return False
        self._taken.append(text)
        if len(self._taken) >= _AT_A_TIME:
            self.feed("")
        return True

    def feed(self, text: str) -> None:
        if self._taken:
            text = "".join(self._taken) + text
            self._taken.clear()
        first = not self.begun
        for char in text:
            self.begun = True
            if self._quoted:
                if self._escaped:
                    self._escaped = False
                elif char == "\\":
                    self._escaped = True
                elif char == '"':
                    self._quoted = False
            elif char == '"':
                self._quoted = True
            elif char in "{[":
                self._opened = True
                self._depth += 1
            elif char in "}]":
                self._depth -= 1
        if not self._whole:
            self._digest.update(_bytes_of(text))
            self._size += len(text)
            if self.complete:
                self._whole = self._digest.digest()
                self.at_once = first


def _digest_of(text: str) -> bytes:
    return blake2b(_bytes_of(text)).digest()


def _bytes_of(text: str) -> bytes:
    return text.encode(errors="surrogatepass")
