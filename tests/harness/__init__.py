"""Real parts for tests: an upstream that keeps the truth, the servers, a raw client, the SDKs people use, a browser."""

from .browser import Browser, Node, Page, PageError
from .client import RawClient, RawEvent
from .cutter import Cutter
from .exchange import Exchange, PeerGone
from .nginx import nginx_in_front, run_nginx
from .pages import serve_files
from .parts import missing, optional_tool, require_browser, require_node_clients, require_tool
from .redis_server import RedisServer, redis_server
from .scripts import choose, raw, refuse, refuse_stream_options, silent, stream
from .sdks import NODE_CLIENTS, PYTHON_CLIENTS, Reading, read_with_node, read_with_python
from .servers import SERVERS, Server, free_port, launch, serve, start, waitress_thread, write_config
from .stopping import stopped
from .upstream import Upstream
from .waiting import PATIENCE, wait_until

__all__ = [
    "NODE_CLIENTS",
    "PATIENCE",
    "PYTHON_CLIENTS",
    "SERVERS",
    "Browser",
    "Cutter",
    "Exchange",
    "Node",
    "Page",
    "PageError",
    "PeerGone",
    "RawClient",
    "RawEvent",
    "Reading",
    "RedisServer",
    "Server",
    "Upstream",
    "choose",
    "free_port",
    "launch",
    "missing",
    "nginx_in_front",
    "optional_tool",
    "raw",
    "read_with_node",
    "read_with_python",
    "redis_server",
    "refuse",
    "refuse_stream_options",
    "require_browser",
    "require_node_clients",
    "require_tool",
    "run_nginx",
    "serve",
    "serve_files",
    "silent",
    "start",
    "stopped",
    "stream",
    "wait_until",
    "waitress_thread",
    "write_config",
]
