"""The users of the configuration, and what those have who do not stand in it (the section ``defaults``)."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from sseproxy.config import BudgetFor, Config, LimitsFor
from sseproxy.core.allowance import Budget, Limits
from sseproxy.core.pricing import usd_to_nano
from sseproxy.wsgi.exchange import User

REMEMBERED: Final = 4096


class Users:
    """Finds users by name and by key."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._known = {
            name: User(name, section.admin, section.models, _budget(section.budget), _limits(section.limits))
            for name, section in config.users.items()
        }
        self.find = lru_cache(REMEMBERED)(self._find)

    def by_key(self) -> dict[str, User]:
        """Users by the SHA-256 (hex) of each of their configured keys."""
        return {digest: self._known[name] for name, section in self._config.users.items() for digest in section.keys}

    def _find(self, name: str) -> User:
        """The user of that name; one whom the configuration does not know has its defaults."""
        defaults = self._config.defaults
        return self._known.get(name) or User(
            name, models=defaults.models, budget=_budget(defaults.budget), limits=_limits(defaults.limits)
        )


def _budget(section: BudgetFor | None) -> Budget | None:
    return None if section is None else Budget(usd_to_nano(section.usd), section.per)


def _limits(section: LimitsFor | None) -> Limits | None:
    return None if section is None else Limits(section.requests, section.tokens, section.streams)
