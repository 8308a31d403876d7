"""Listeners, routes and upstreams as small documents."""

from __future__ import annotations

from typing import Any

import pytest

from isthmus.assurance.traffic.request import Request
from isthmus.assurance.traffic.walk import Configuration, Side, Walk, walk

Object = dict[str, Any]


class Words:
    """What tests are written with."""

    @staticmethod
    def chain(name: str, *filters: Object, **match: Any) -> Object:
        return {"name": name, "filterChainMatch": match, "filters": list(filters) or [Words.tcp(name)]}

    @staticmethod
    def tcp(cluster: str) -> Object:
        return {"name": "envoy.filters.network.tcp_proxy", "typedConfig": {"cluster": cluster}}

    @staticmethod
    def http(*hosts: Object, filters: tuple[Object, ...] = (), **fields: Any) -> Object:
        """A connection manager with these virtual hosts inline."""
        config = {"routeConfig": {"name": "table", "virtualHosts": list(hosts)}, "httpFilters": list(filters)}
        return {"name": "envoy.filters.network.http_connection_manager", "typedConfig": config | fields}

    @staticmethod
    def host(name: str, *domains: str, routes: tuple[Object, ...] = ()) -> Object:
        every = {"name": name, "match": {"prefix": "/"}, "directResponse": {"status": 200}}
        return {"name": name, "domains": list(domains), "routes": list(routes) or [every]}

    @staticmethod
    def answering(name: str, **match: Any) -> Object:
        """A route that the proxy answers itself."""
        return {"name": name, "match": match, "directResponse": {"status": 200}}

    @staticmethod
    def rbac(action: str, **policies: Object) -> Object:
        named = {f"ns[shop]-policy[{name}]-rule[0]": policy for name, policy in policies.items()}
        return {"name": "envoy.filters.http.rbac", "typedConfig": {"rules": {"action": action, "policies": named}}}

    @staticmethod
    def walked(request: Request, *chains: Object, inspectors: tuple[str, ...] = (), **listener: Any) -> Walk:
        """Through one inbound listener with these chains."""
        found = {
            "name": "here",
            "trafficDirection": "INBOUND",
            "listenerFilters": [{"name": f"envoy.filters.listener.{each}_inspector"} for each in inspectors],
            "filterChains": list(chains),
        }
        clusters = [{"name": chain["name"], "type": "ORIGINAL_DST"} for chain in chains]
        return walk(Configuration({"listeners": [found | listener], "clusters": clusters}), request, Side.INBOUND)


@pytest.fixture
def words() -> type[Words]:
    return Words
