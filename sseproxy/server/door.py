"""Load balancing between processes that listen on one address: a process without a free thread leaves clients to
others."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

from waitress import wasyncore

from sseproxy.server.corridor import Corridor
from sseproxy.server.loop import Loop

if TYPE_CHECKING:
    from sseproxy.server.channel import Channel

PATIENCE: Final = 0.05
"""Seconds between two checks of a process without room whether the others have none either."""
AT_ONCE: Final = 64
"""Clients that it accepts then, to queue them or refuse them with an error."""


class Door:
    """Opens and closes one process to new clients.

    It is closed while there is no room. A request that arrives all the same, on a kept-alive connection or together
    with others, is passed on before it is read, as long as another process has room.

    :param process: its number.
    :ivar patience: seconds until :meth:`mind` is to be called again, at the latest.
    """

    def __init__(self, loop: Loop, corridor: Corridor, process: int) -> None:
        self._loop = loop
        self._corridor = corridor
        self._process = process
        self._is_open = True
        self._look_at = 0.0
        loop.listen_too(_Arrivals(loop, corridor))
        loop.pass_on = self._pass_on

    @property
    def patience(self) -> float:
        return 1.0 if self._is_open else PATIENCE

    def mind(self) -> None:
        """Open or close it by the room there is; now and then accept clients that no other process has room for."""
        has_room = self._loop.has_room
        self._corridor.tell(self._process, has_room)
        now = monotonic()
        if has_room != self._is_open:
            self._is_open = has_room
            self._loop.accept(has_room)
            self._look_at = now + PATIENCE
        elif not has_room and now >= self._look_at:
            self._look_at = now + PATIENCE
            if not self._corridor.has_room(self._process):
                self._loop.accept_now(AT_ONCE)

    def close(self) -> None:
        """Close it for good: the other processes accept all new clients."""
        self._corridor.leave(self._process)
        self._loop.pass_on = None
        self._loop.stop_listening()

    def _pass_on(self, channel: Channel) -> bool:
        if self._loop.dispatcher.idle or not self._corridor.has_room(self._process):
            return False
        return self._corridor.give(self._loop.servers.index(channel.server), channel.socket)


class _Arrivals(wasyncore.dispatcher):  # type: ignore[misc]
    """Connections that other processes pass on: one more listening socket to the loop."""

    def __init__(self, loop: Loop, corridor: Corridor) -> None:
        super().__init__(corridor.end, loop.connections)
        self._loop = loop
        self._corridor = corridor
        self.accepting = True

    def readable(self) -> bool:
        return self.accepting

    def writable(self) -> bool:
        return False

    def handle_read(self) -> None:
        """Do nothing: the door closed meanwhile, and other processes take the connection."""

    def handle_accept(self) -> None:
        if (arrived := self._corridor.take()) is not None:
            self._loop.take_over(*arrived)
