"""What stands in the journal, and how it gets from there into a ledger. Opens no file itself.

Replaying is idempotent, since a ledger takes each id once and ends each charge once: it may be broken off anywhere and
begun again from the first line.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec.structs import replace

from sseproxy.core.pricing import nano_to_usd
from sseproxy.core.tries import Try
from sseproxy.core.usage import Usage
from sseproxy.ledger.bounds import bounded_amount, bounded_name
from sseproxy.ledger.journal_file import LINE_LIMIT, JournalFile
from sseproxy.ledger.protocol import Charge, Checkpoint, DuplicateCharge, Ledger, LedgerUnavailable, Settlement
from sseproxy.ledger.schema import micros

log = logging.getLogger("sseproxy.accounting")
_Known = TypeVar("_Known", Settlement, Checkpoint)
#: Lines between two signs of life to the ledger: a long replay must not look like death.
_LINES_PER_SIGN: Final = 500


class Reserved(msgspec.Struct, frozen=True, tag="reserved", tag_field="is"):
    """A charge whose reservation is not in the ledger yet."""

    owner: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}$")]
    charge: Charge


class Booked(msgspec.Struct, frozen=True, tag="booked", tag_field="is"):
    """A reservation that has meanwhile been brought into the ledger by the process that runs it."""

    id: str


class Noted(msgspec.Struct, frozen=True, tag="noted", tag_field="is"):
    """What was known of a running charge."""

    id: str
    known: Checkpoint


class Ended(msgspec.Struct, frozen=True, tag="ended", tag_field="is"):
    """A charge that came to its end."""

    id: str
    became: Settlement
    released: bool


Entry = Reserved | Booked | Noted | Ended
encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Entry).decode


def bounded_charge(charge: Charge) -> Charge:
    """The charge as the ledger will keep it; a line of bounded length, whatever a client called its model.

    :raises ValueError: its time has no time zone.
    """
    micros(charge.started_at)
    return replace(
        charge,
        user=bounded_name(charge.user),
        key=None if charge.key is None else bounded_name(charge.key),
        route=bounded_name(charge.route),
        model=bounded_name(charge.model),
        upstream=bounded_name(charge.upstream),
        upstream_model=bounded_name(charge.upstream_model),
        reserved=bounded_amount(charge.reserved),
    )


def bounded_result(known: _Known) -> _Known:
    """The figures as the ledger will keep them; a line of bounded length, whatever was tried."""
    usage = Usage(
        input_tokens=bounded_amount(known.usage.input_tokens),
        cached_input_tokens=bounded_amount(known.usage.cached_input_tokens),
        cache_write_tokens=bounded_amount(known.usage.cache_write_tokens),
        output_tokens=bounded_amount(known.usage.output_tokens),
        reasoning_tokens=bounded_amount(known.usage.reasoning_tokens),
        cost=None if known.usage.cost is None else bounded_amount(known.usage.cost),
    )
    return replace(
        known,
        usage=usage,
        cost=bounded_amount(known.cost),
        prefix_tokens=bounded_amount(known.prefix_tokens),
        upstream=None if known.upstream is None else bounded_name(known.upstream),
        upstream_model=None if known.upstream_model is None else bounded_name(known.upstream_model),
        tries=_bounded_tries(known.tries),
    )


def _bounded_tries(tries: Sequence[Try]) -> tuple[Try, ...]:
    """The last of them, which may be the answer, and as many before it as fit into a line."""
    kept: list[Try] = []
    room = LINE_LIMIT // 2
    for each in reversed(tries):
        short = replace(
            each,
            upstream=bounded_name(each.upstream),
            upstream_model=bounded_name(each.upstream_model),
            error=None if each.error is None else bounded_name(each.error),
        )
        room -= len(encode(short)) + 1
        if room < 0:
            break
        kept.append(short)
    return (*reversed(kept),)


class _UnknownCharge(Exception):
    """A charge has ended that was made in other books, or in a time that a backup does not know."""

    def __init__(self, charge_id: str, cost: int) -> None:
        super().__init__(charge_id)
        self.charge_id = charge_id
        self.cost = cost


class Replay:
    """One pass over a journal.

    :param moved: told of each charge of this process whose reservation is in the ledger from now on.
    """

    def __init__(self, file: JournalFile, ledger: Ledger, moved: Callable[[str], object]) -> None:
        self.applied = 0
        self._file = file
        self._ledger = ledger
        self._moved = moved
        self._lines = 0
        self._reserved: dict[str, Reserved] = {}
        self._noted: dict[str, Checkpoint] = {}
        self._owners: set[str] = set()

    def run(self) -> None:
        """Bring everything into the ledger, then empty the journal, unless a process that lives still needs its lines.

        :raises LedgerUnavailable: the ledger went away meanwhile; the journal is as it was.
        """
        end = 0
        while True:
            for line, after in self._file.read(end):
                self.take(line)
                end = after
            self._close_accounts()
            # What came in meanwhile is read too. A charge of another process that lives is that one's to bring in.
            if self._reserved or self._file.clear(end):
                break
        for owner in self._owners:
            if not self._reserved and not self._file.is_own(owner) and not self._file.is_alive(owner):
                self._file.forget(owner)

    def take(self, line: bytes) -> None:
        """Bring one line into the ledger; set it aside if that cannot be done.

        :raises LedgerUnavailable: the ledger is away.
        """
        self._lines += 1
        if self._lines % _LINES_PER_SIGN == 0:
            self._ledger.checkpoint({})
        if not line.strip():
            return
        try:
            self._apply(_decode(line))
        except LedgerUnavailable:
            raise
        except _UnknownCharge as unknown:
            log.warning(
                "the books do not know charge %s of the journal %s, so its %s USD are not booked: its line was set "
                "aside in %s.rejected, to be added to the journal of the books that it was made in, or booked by hand",
                *(unknown.charge_id, self._file.path, nano_to_usd(unknown.cost), self._file.path),
            )
            self._file.set_aside(line)
        except Exception as error:
            log.error("a line of the journal %s cannot be booked, and was set aside: %r", self._file.path, error)
            self._file.set_aside(line)

    def _apply(self, entry: Entry) -> None:
        if isinstance(entry, Reserved):
            self._reserved[entry.charge.id] = entry
            self._owners.add(entry.owner)
        elif isinstance(entry, Booked):
            self._reserved.pop(entry.id, None)
        elif isinstance(entry, Noted):
            self._noted[entry.id] = entry.known
        else:
            self._noted.pop(entry.id, None)
            if reserved := self._reserved.pop(entry.id, None):
                self._reserve(reserved.charge)
            end = self._ledger.release if entry.released else self._ledger.settle
            if end(entry.id, entry.became):
                self.applied += 1
            elif not self._ledger.knows(entry.id):
                raise _UnknownCharge(entry.id, entry.became.cost)

    def _close_accounts(self) -> None:
        """Charges without an end: those of this process run on in the ledger, those of dead ones end here."""
        for charge_id, entry in list(self._reserved.items()):
            if self._file.is_own(entry.owner):
                self._reserve(entry.charge)
                self._file.append(encode(Booked(charge_id)), sync=False)
                self._moved(charge_id)
            elif not self._file.is_alive(entry.owner):
                self._reserve(entry.charge)
                self._note(charge_id)
                self.applied += self._ledger.expire(charge_id)
            else:
                continue
            del self._reserved[charge_id]
        for charge_id in [each for each in self._noted if each not in self._reserved]:
            self._note(charge_id)

    def _reserve(self, charge: Charge) -> None:
        # Taken: an earlier replay got so far, or the ledger went away after it had booked and before it said so.
        with suppress(DuplicateCharge):
            self._ledger.reserve(charge)

    def _note(self, charge_id: str) -> None:
        if known := self._noted.pop(charge_id, None):
            self._ledger.checkpoint({charge_id: known})
