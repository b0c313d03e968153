"""The fault suite behind ``benchmarks/books.py``: an upstream that keeps the truth, clients that leave, servers
that die.
"""
