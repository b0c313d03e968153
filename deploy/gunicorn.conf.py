"""gunicorn for sseproxy: gunicorn -c deploy/gunicorn.conf.py "sseproxy:create_app()"

``-k gevent``, ``-w 4``, ``-b 0.0.0.0:8080`` on the command line win over what stands here. The configuration is found
as by ``sseproxy serve``: $SSEPROXY_CONFIG, else ./config.yaml. https://docs.gunicorn.org/en/stable/settings.html

``sseproxy serve --server gunicorn`` needs none of this and does one thing better: while it goes down it keeps its
address open and refuses in words (/-/ready is 503), where gunicorn itself closes the address at once. This file is for
those who start gunicorn themselves, also with an application of their own around or beside sseproxy.
"""

import os

from sseproxy.server.gunicorn_conf import settings

# Address, threads and times of config.yaml, and the hooks for SIGTERM, SIGHUP and metrics: gunicorn --print-config.
globals().update(settings())

workers = int(os.environ.get("WEB_CONCURRENCY", 2))
# waitress in each worker: one running stream holds a thread. With -k gevent it holds a greenlet, and more of them fit
# into a process; -k gthread has gunicorn's own threads.
worker_class = "sseproxy.server.waitress_worker.WaitressWorker"
# No worker is replaced after so many requests: that would end streams for a leak that is not there.
max_requests = 0

# The application is loaded in each worker. --preload works too (what does not survive a fork is opened after it), and
# saves some memory; with gevent it must not be used, since that has to patch what the application imports before.
preload_app = False
