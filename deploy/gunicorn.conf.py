"""gunicorn for sseproxy: gunicorn -c deploy/gunicorn.conf.py "sseproxy:create_app()"

``-k gevent``, ``-w 4``, ``-b 0.0.0.0:8080`` on the command line win over what stands here. The configuration is found
as by ``sseproxy serve``: $SSEPROXY_CONFIG, else ./config.yaml. https://docs.gunicorn.org/en/stable/settings.html

``sseproxy serve --server gunicorn`` needs none of this and does one thing better: while it goes down it keeps its
address open and refuses in words (/-/ready is 503), where gunicorn itself closes the address at once. This file is for
those who start gunicorn themselves, also with an application of their own around or beside sseproxy.
"""

import atexit
import os
import shutil
import signal
import tempfile

from sseproxy.config import Config
from sseproxy.server.counting import DIRECTORY, count_waiting, forget_process
from sseproxy.server.drain import AFTER_GRACE
from sseproxy.server.hooks import post_worker_init as handle_signals
from sseproxy.server.hooks import worker_exit, worker_int  # noqa: F401  (hooks, found by their names)
from sseproxy.server.log import set_up_logging

_config = Config.load()
set_up_logging(_config.log.format, _config.log.level)

bind = _config.server.listen.replace("*:", "0.0.0.0:")
workers = int(os.environ.get("WEB_CONCURRENCY", 2))
# One running stream holds a thread; with -k gevent a greenlet, and many more of them fit into a process.
worker_class = "gthread"
threads = _config.server.threads
worker_connections = 2000

# Longer than clients and nginx (60 s) keep a connection open: the end that reuses it is the one that closes it.
keepalive = 75
limit_request_line = 8190
# Whose X-Forwarded-* are believed is said by server.trusted_proxy alone.
forwarded_allow_ips = ""
proc_name = "sseproxy"
control_socket_disable = True
errorlog = "-"
loglevel = _config.log.level
# A heartbeat file on a slow disk is a known cause of spurious restarts.
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None

# SIGTERM: running answers get server.shutdown_grace, then an error event, then are settled.
graceful_timeout = int(_config.server.shutdown_grace + AFTER_GRACE) + 2
timeout = max(30, graceful_timeout + 10)
# No worker is replaced after so many requests: that would end streams for a leak that is not there.
max_requests = 0

# The application is loaded in each worker. --preload works too (what does not survive a fork is opened after it), and
# saves some memory; with gevent it must not be used, since that has to patch what the application imports before.
preload_app = False


def on_starting(server):
    """Let the workers count together; must stand in the environment before they import anything."""
    if _config.metrics.enabled and not os.environ.get(DIRECTORY):
        directory = os.environ[DIRECTORY] = tempfile.mkdtemp(prefix="sseproxy-metrics-")
        master = os.getpid()
        atexit.register(lambda: os.getpid() == master and shutil.rmtree(directory, ignore_errors=True))


def when_ready(server):
    """SIGHUP: workers take on the new file in place, where gunicorn would replace them, and die of a bad file."""
    server.reload = lambda: server.kill_workers(signal.SIGHUP)


def post_fork(server, worker):
    """Until the worker has loaded its application, SIGHUP is not to end it, as it does by default."""
    worker.SIGNALS = [number for number in worker.SIGNALS if number != signal.SIGHUP]
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def post_worker_init(worker):
    """The worker has loaded its application."""
    handle_signals(worker)
    count_waiting(_config, worker)


def child_exit(server, worker):
    """In the master, when a worker has ended."""
    forget_process(worker.pid)
