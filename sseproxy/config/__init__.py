"""The configuration: YAML in, immutable and fully checked sections out. docs/configuration.md describes every key."""

from __future__ import annotations

from sseproxy.config.allowance import BudgetFor, LimitsFor
from sseproxy.config.builtin import DEMO_KEY
from sseproxy.config.config import Config
from sseproxy.config.fixed import keep_fixed
from sseproxy.config.models import Model, Place, find_model, is_pattern
from sseproxy.config.problem import ConfigError
from sseproxy.config.prompt import Prompt, PromptFor
from sseproxy.config.routes import Route
from sseproxy.config.upstreams import Upstream

__all__ = [
    "DEMO_KEY",
    "BudgetFor",
    "Config",
    "ConfigError",
    "LimitsFor",
    "Model",
    "Place",
    "Prompt",
    "PromptFor",
    "Route",
    "Upstream",
    "find_model",
    "is_pattern",
    "keep_fixed",
]
