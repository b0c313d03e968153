"""The section ``upstreams`` made into applications: one for each, and what tries them in turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sseproxy.config import Config, Upstream
from sseproxy.core.redact import Redactor, secrets_of
from sseproxy.upstream.app import Timeout, UpstreamApp
from sseproxy.upstream.flavor import AZURE_VERSION, Azure, OpenAI
from sseproxy.upstream.local import LocalUpstream
from sseproxy.upstream.pool import UpstreamPool

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


def make_upstream(section: Upstream) -> WSGIApplication:
    """The application that answers as this upstream does."""
    if section.application is not None:
        return LocalUpstream(section.application)
    assert section.url is not None
    return UpstreamApp(
        section.url,
        **_secret_parts(section),
        timeout=Timeout(**section.timeout.model_dump()),
        include_usage=section.include_usage,
        flavor=Azure(section.api_version or AZURE_VERSION) if section.flavor == "azure" else OpenAI(),
        ca_file=section.ca_file,
    )


def _secret_parts(section: Upstream) -> dict[str, Any]:
    """What may be secret of that by which an upstream is reached."""
    return {
        "api_key": section.api_key.get_secret_value() if section.api_key else None,
        "headers": {name: value.get_secret_value() for name, value in section.headers.items()},
        "proxy": section.proxy.get_secret_value() if section.proxy else None,
    }


def make_pool(app: WSGIApplication, config: Config, cooling: Callable[[str, bool], object]) -> UpstreamPool:
    """What asks ``app`` again, of this upstream or another, as the configuration says.

    :param cooling: told of each upstream that is left alone (True) or back (False).
    """
    for name in config.upstreams:  # after a reload too
        cooling(name, False)
    return UpstreamPool(
        app,
        {name: section.retries for name, section in config.upstreams.items()},
        {name: section.cooldown for name, section in config.upstreams.items()},
        cooling,
    )


def make_redactor(config: Config) -> Redactor:
    """What knows the secrets of every upstream."""
    secrets: list[str] = []
    for section in config.upstreams.values():
        secrets += secrets_of(**_secret_parts(section))
    return Redactor(secrets)


def passthrough_paths(config: Config) -> dict[str, str]:
    """Further paths, and the upstream that serves each; the first one that names it."""
    paths: dict[str, str] = {}
    for name, section in config.upstreams.items():
        for path in section.passthrough:
            paths.setdefault(path, name)
    return paths
