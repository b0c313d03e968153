"""Loads the vocabulary of most models: once, where this is imported, for all processes that are forked from there."""

from sseproxy.tokenizer import Tokenizer

Tokenizer().count("a", "")
