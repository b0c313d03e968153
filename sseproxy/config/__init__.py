"""The configuration: YAML in, immutable and fully checked sections out. docs/configuration.md describes every key."""

from __future__ import annotations

from sseproxy.config.accounting import Accounting
from sseproxy.config.allowance import BudgetFor, Defaults, LimitsFor
from sseproxy.config.auth import Auth, Jwt
from sseproxy.config.builtin import DEMO_KEY
from sseproxy.config.config import Config
from sseproxy.config.fixed import keep_fixed
from sseproxy.config.limits import Limits
from sseproxy.config.log import Log
from sseproxy.config.metrics import Metrics
from sseproxy.config.models import Model, Place, Price, find_model
from sseproxy.config.problem import ConfigError, Problem
from sseproxy.config.prompt import Prompt, PromptFor
from sseproxy.config.routes import Route
from sseproxy.config.server import Server
from sseproxy.config.streams import Streams
from sseproxy.config.tracing import Tracing
from sseproxy.config.upstreams import Timeout, Upstream
from sseproxy.config.users import User
from sseproxy.config.wrap import Wrap

__all__ = [
    "DEMO_KEY",
    "Accounting",
    "Auth",
    "BudgetFor",
    "Config",
    "ConfigError",
    "Defaults",
    "Jwt",
    "Limits",
    "LimitsFor",
    "Log",
    "Metrics",
    "Model",
    "Place",
    "Price",
    "Problem",
    "Prompt",
    "PromptFor",
    "Route",
    "Server",
    "Streams",
    "Timeout",
    "Tracing",
    "Upstream",
    "User",
    "Wrap",
    "find_model",
    "keep_fixed",
]
