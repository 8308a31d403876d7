"""Providers of MeshConfig, as people write them."""

from __future__ import annotations

import pytest

from isthmus.ingest.providers import providers_of
from isthmus.ingest.telemetry_providers import telemetry_defaults_of


@pytest.mark.parametrize("port", [9000, "9000"])
def test_a_port_may_be_in_quotes(port: object) -> None:
    server = {"service": "judge.shop.svc.cluster.local", "port": port}
    providers = [
        {"name": "judge", "envoyExtAuthzGrpc": server},
        {"name": "traces", "opentelemetry": server},
        {"name": "logs", "envoyOtelAls": server},
    ]

    judges, wrong = providers_of({"extensionProviders": providers})
    told, also_wrong = telemetry_defaults_of({"extensionProviders": providers})

    assert [(each.name, each.port) for each in judges] == [("judge", 9000)]
    assert "traces" in {each.name for each in told.traces}
    assert "logs" in {each.name for each in told.logs}
    assert (wrong, also_wrong) == ((), ())


def test_what_is_no_port_leaves_the_provider_out_and_says_where() -> None:
    config = {"extensionProviders": [{"name": "judge", "envoyExtAuthzGrpc": {"service": "a.b", "port": "nine"}}]}

    assert providers_of(config) == (
        (),
        ("extensionProviders[0].envoyExtAuthzGrpc: Expected `int`, got `str` - at `port`: the provider is left out",),
    )
