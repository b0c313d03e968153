"""Puts gevent in the place of what waits, before all else is imported: as gunicorn does in a worker of its kind."""

from gevent import monkey

# What has to do with processes stays for the one that forks them; a worker has it replaced too.
monkey.patch_all(os=False, signal=False)
