"""server/channel: what is written past the server's loop."""

from __future__ import annotations

import select
import socket
import struct
import threading

import pytest

from sseproxy.server.channel import Channel
from tests.harness import PATIENCE


def test_a_client_that_has_reset_its_connection_has_left_though_the_loop_has_not_heard_of_it() -> None:
    channel = Channel.__new__(Channel)
    channel.outbuf_lock, channel.connected = threading.Condition(), True
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        channel.socket = listener.accept()[0]
    with channel.socket:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        assert select.select([channel.socket], [], [], PATIENCE)[0]

        with pytest.raises(BrokenPipeError):
            channel.send_past(b"x")
