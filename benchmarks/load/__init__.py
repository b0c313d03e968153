"""Load on proxies, measured: what ``benchmarks/streams.py`` and ``benchmarks/overload.py`` are made of."""
