"""What `isthmus proxy-status` makes of what control planes say."""

from __future__ import annotations

from typing import Any

from isthmus.cli.proxies import each_once


def row(control_plane: str, proxy: str, *kinds: str) -> dict[str, Any]:
    """As a control plane of that cluster lists a proxy of east's, with what it was sent."""
    return {
        "proxy": proxy,
        "cluster_id": "east",
        "controlPlane": control_plane,
        "istiod": f"istiod-{control_plane}",
        "resources": {kind: {"sent": control_plane} for kind in kinds},
    }


def shown(*rows: dict[str, Any]) -> list[tuple[str, str, list[str], dict[str, str]]]:
    return [
        (
            each["proxy"],
            each["controlPlane"],
            each["alsoAt"],
            {kind: told["sent"] for kind, told in each["resources"].items()},
        )
        for each in each_once(rows)
    ]


def test_a_proxy_whose_agent_has_gone_ahead_to_the_preferred_control_plane_is_where_its_envoy_is():
    """East's is back: the agent holds a stream there, and has its names still from west's, where the Envoy is."""
    agent = row("east", "client.sample", "bundles")
    envoy = row("west", "client.sample", "cluster", "listener", "nameTable")

    for order in ((agent, envoy), (envoy, agent)):
        assert shown(*order) == [
            (
                "client.sample",
                "west",
                ["east/istiod-east"],
                {"bundles": "east", "cluster": "west", "listener": "west", "nameTable": "west"},
            )
        ]


def test_what_the_agent_alone_is_told_is_there_wherever_it_comes_from():
    """The Envoy is at home already, the agent not yet."""
    envoy, agent = row("east", "client.sample", "cluster", "listener"), row("west", "client.sample", "nameTable")

    [(_, control_plane, also, resources)] = shown(agent, envoy)

    assert (control_plane, also) == ("east", ["west/istiod-west"])
    assert resources == {"cluster": "east", "listener": "east", "nameTable": "west"}


def test_proxies_are_in_order_and_each_is_one_row():
    found = shown(row("east", "web.shop", "listener"), row("east", "client.sample", "listener"))

    assert [(proxy, also) for proxy, _, also, _ in found] == [("client.sample", []), ("web.shop", [])]
