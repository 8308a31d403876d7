"""Headless services and their Pods, as callers on some network find them."""

from __future__ import annotations

from dataclasses import replace

from isthmus.model.names import UNDECLARED_NETWORK, Hostname
from isthmus.model.services import Service
from isthmus.model.views import ProxyKind, Scope


def is_near(scope: Scope, service: Service) -> bool:
    """Whether the name of a headless service, or of a Pod of one, leads applications beside the proxy to Pods themselves. Where they do not
    ask this mesh for names, nothing else can be told to them.
    """
    asks_others = scope.kind is ProxyKind.SIDECAR and not scope.captures_names
    return service.near_in is None or asks_others or scope.network in (*service.near_in, UNDECLARED_NETWORK)


def as_called(scope: Scope, service: Service) -> Service:
    """The service as callers of the scope find it: from far away a headless one is like any other."""
    return replace(service, headless=False) if service.headless and not is_near(scope, service) else service


def host_of(service: Service) -> Hostname:
    """The name by which rules mean the service: a Pod's headless service stands for it."""
    return service.pod_of.hostname if service.pod_of else service.hostname


def hosts_exposed(service: Service) -> tuple[Hostname, ...]:
    """The names by which a network gateway may be told to pass it through: its own, and those of what is behind it."""
    return service.hostname, host_of(service), *(key.hostname for key in service.behind)
