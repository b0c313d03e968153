"""The proxy whose dashboard is looked at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sseproxy import create_app
from sseproxy.app import Proxy

from .dashboard import settings


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Proxy]:
    app = create_app(settings(tmp_path))
    yield app
    app.close()
