"""What a proxy is given, as far as it can be computed.

An exception on the way is a mistake of ours. It costs the part that it comes from: a service, a port, a host. The rest is what it would be
without that part, and an Issue names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar

from isthmus.discovery.callers import scope_for
from isthmus.discovery.sight import sight_of
from isthmus.discovery.view import exposed_of, upstreams_of, view_for
from isthmus.discovery.visibility import exposures_for
from isthmus.envoy.compile import compile_but_endpoints, compile_view, endpoints_told, names_of_clusters, of_proxy
from isthmus.envoy.endpoints import document_of_endpoints
from isthmus.envoy.expand import document_of
from isthmus.envoy.resources import ResourceSet
from isthmus.model.gateways import GatewayPort
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId, ServiceKey
from isthmus.model.services import Service
from isthmus.model.snapshot import Snapshot
from isthmus.model.values import dataclass
from isthmus.model.views import ExtraHost, InboundPort, InboundView, OutboundView, Proxy, Upstream, View

T = TypeVar("T", OutboundView, InboundView)
Part = TypeVar("Part")
Object = dict[str, Any]

_SHARED_PARTS = ("upstreams", "exposed", "extra_hosts", "gateway_ports")
_OWN_PARTS = ("ports",)


@dataclass(frozen=True, slots=True)
class Computed:
    """A view without what could not be computed, everything of it but endpoints, and what is missing."""

    view: View
    resources: ResourceSet
    lost: tuple[Issue, ...]

    def document(self, node: Object) -> Object:
        """As `isthmus render` prints it."""
        told = dict(endpoints_told(self.view.outbound))
        endpoints = [document_of_endpoints(told[name], name) for name in sorted(told)]
        return document_of(node, self.resources) | {"endpoints": endpoints}


def computed(proxy: Proxy, snapshot: Snapshot) -> Computed:
    """Raises what cannot be laid at the door of one part."""
    view, lost = _seen(proxy, snapshot)
    try:
        return Computed(view, _compiled(view), tuple(lost))
    except Exception:
        outbound, missing = _without_failing(view.outbound, _SHARED_PARTS, compile_but_endpoints)
        inbound, own = _without_failing(
            view.inbound, _OWN_PARTS, lambda each: list(of_proxy(proxy.scope.kind, each, names_of_clusters(outbound)))
        )
        left = replace(view, outbound=outbound, inbound=inbound)
        return Computed(left, _compiled(left), (*lost, *missing, *own))


def _compiled(view: View) -> ResourceSet:
    return compile_view(view, compile_but_endpoints(view.outbound))


def _seen(proxy: Proxy, snapshot: Snapshot) -> tuple[View, list[Issue]]:
    """The view; if that fails, without the services that fail by themselves."""
    try:
        return view_for(proxy, snapshot), []
    except Exception:
        scope = scope_for(proxy, snapshot)
        sight, exposures = sight_of(scope, snapshot), exposures_for(scope, snapshot)

        def seen(service: Service) -> None:
            if sight.sees(service):
                list(upstreams_of(scope, service, sight, snapshot))
            list(exposed_of(scope, service, exposures, snapshot) if exposures else ())

        failing = _failing(snapshot.services.values(), seen)
        gone = {service.key for service, _ in failing}
        return view_for(proxy, _without(gone, snapshot)), [_lost(*each) for each in failing]


def _without(gone: set[ServiceKey], snapshot: Snapshot) -> Snapshot:
    services = {key: each for key, each in snapshot.services.items() if key not in gone}
    endpoints = {key: each for key, each in snapshot.endpoints.items() if key not in gone}
    return replace(snapshot, services=MappingProxyType(services), endpoints=MappingProxyType(endpoints))


def _without_failing(view: T, parts: Sequence[str], compiled: Callable[[T], object]) -> tuple[T, list[Issue]]:
    """The view without the parts that fail when they are alone in it."""

    def attempt(part: str, each: object) -> None:
        fields: dict[str, Any] = dict.fromkeys(parts, ()) | {part: (each,)}
        compiled(replace(view, **fields))

    lost: list[Issue] = []
    kept: dict[str, Any] = {}
    for part in parts:
        every = getattr(view, part)
        failing = _failing(every, partial(attempt, part))
        lost += [_lost(*each) for each in failing]
        kept[part] = tuple(each for each in every if not any(each is failed for failed, _ in failing))
    return replace(view, **kept), lost


def _failing(every: Iterable[Part], attempt: Callable[[Part], object]) -> list[tuple[Part, Exception]]:
    found = []
    for each in every:
        try:
            attempt(each)
        except Exception as error:
            found.append((each, error))
    return found


def _lost(part: object, error: Exception) -> Issue:
    return Issue(
        subject=_subject(part[1] if isinstance(part, tuple) else part),
        code="ISM0113",
        severity=Severity.ERROR,
        what=f"is left out of what is shown, by a mistake of Isthmus: {type(error).__name__}: {error}",
        fix="report it, with the objects that are about it",
    )


def _subject(part: object) -> Subject:
    match part:
        case Upstream():
            return _subject(part.service)
        case Service():
            return Subject(ClusterId(""), "Service", part.namespace, part.name)
        case InboundPort(target_port=number) | GatewayPort(number=number):
            return Subject(ClusterId(""), "port", "", str(number))
        case ExtraHost(host=host):
            return Subject(ClusterId(""), "host", "", str(host))
    raise TypeError(f"{type(part).__name__} is no part of a view")
