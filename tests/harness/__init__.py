"""Real parts for tests: an upstream that keeps the truth, the servers, a raw client, the SDKs people use."""

from .client import RawClient, RawEvent
from .exchange import Exchange, PeerGone
from .parts import missing, require_node_clients, require_tool
from .redis_server import RedisServer, redis_server
from .scripts import choose, raw, refuse, refuse_stream_options, silent, stream
from .sdks import NODE_CLIENTS, PYTHON_CLIENTS, Reading, read_with_node, read_with_python
from .servers import SERVERS, Server, free_port, serve, start, waitress_thread, write_config
from .upstream import Upstream

__all__ = [
    "NODE_CLIENTS",
    "PYTHON_CLIENTS",
    "SERVERS",
    "Exchange",
    "PeerGone",
    "RawClient",
    "RawEvent",
    "Reading",
    "RedisServer",
    "Server",
    "Upstream",
    "choose",
    "free_port",
    "missing",
    "raw",
    "read_with_node",
    "read_with_python",
    "redis_server",
    "refuse",
    "refuse_stream_options",
    "require_node_clients",
    "require_tool",
    "serve",
    "silent",
    "start",
    "stream",
    "waitress_thread",
    "write_config",
]
