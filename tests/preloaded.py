"""What each start of a proxy begins with: done once, where this is imported, for all processes forked from there."""

from __future__ import annotations

import gc
from contextlib import closing

from sseproxy.ledger.ledger import open_ledger
from sseproxy.tokenizer import Tokenizer

Tokenizer().count("a", "")
with closing(open_ledger("sqlite://")):
    pass
# Else the first collection of each of them copies all that has been imported.
gc.collect()
gc.freeze()
