"""Puts gevent in the place of what waits, before all else is imported: as gunicorn does in a worker of its kind."""

from functools import cache
from importlib import metadata

from gevent import monkey

# gevent looks through all that is installed for each module that it replaces; a worker finds here what was found.
metadata.entry_points = cache(metadata.entry_points)
# What has to do with processes stays for the one that forks them; a worker has it replaced too.
monkey.patch_all(os=False, signal=False)
