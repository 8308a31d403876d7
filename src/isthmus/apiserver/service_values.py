"""Values of Services, and of who answers for them: EndpointSlices, Endpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_address
from itertools import chain
from operator import methodcaller
from typing import Any

from isthmus.apiserver import names
from isthmus.apiserver.allocation import NODE_PORTS
from isthmus.apiserver.faults import (
    Faults,
    duplicate,
    forbidden,
    invalid,
    one_of,
    required,
    too_many,
)
from isthmus.apiserver.metadata_values import labels

Object = dict[str, Any]

_POLICIES = ("Cluster", "Local")
_FAMILY_POLICIES = ("PreferDualStack", "RequireDualStack", "SingleStack")
_DISTRIBUTIONS = ("PreferClose", "PreferSameZone", "PreferSameNode")
_SESSION_SECONDS_MAX = 86400
_ENDPOINTS_MAX, _ADDRESSES_MAX, _PORTS_MAX = 1000, 100, 20000


def service(obj: Object) -> Faults:
    spec = obj.get("spec") or {}
    type_ = spec.get("type")
    headless = spec.get("clusterIP") == "None"
    if not spec.get("ports") and not headless and type_ != "ExternalName":
        yield required("spec.ports")
    if headless and type_ in ("NodePort", "LoadBalancer"):
        yield from invalid("spec.clusterIPs[0]", "None", [f"may not be set to 'None' for {type_} services"])
    if type_ == "ExternalName":
        yield from _external_name(spec.get("externalName") or "")
    yield from _service_ports(spec.get("ports") or (), type_)
    yield from labels("spec.selector", spec.get("selector"))
    yield from one_of("spec.sessionAffinity", spec.get("sessionAffinity"), ("ClientIP", "None"))
    yield from _session(spec)
    for position, text in enumerate(spec.get("externalIPs") or ()):
        yield from invalid(f"spec.externalIPs[{position}]", text, names.endpoint_address(text))
    yield from one_of("spec.type", type_, ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort"))
    yield from _of_load_balancers(spec, type_)
    yield from _traffic(spec, type_)
    for position, family in enumerate(spec.get("ipFamilies") or ()):
        if family != "IPv4":
            yield from invalid(f"spec.ipFamilies[{position}]", family, ["not configured on this cluster"])
    yield from one_of("spec.ipFamilyPolicy", spec.get("ipFamilyPolicy"), _FAMILY_POLICIES)
    yield from one_of("spec.trafficDistribution", spec.get("trafficDistribution"), _DISTRIBUTIONS)


def _external_name(text: str) -> Faults:
    if text:
        yield from invalid("spec.externalName", text, names.subdomain(text.removesuffix(".")))
    else:
        yield required("spec.externalName")


def _service_ports(ports: Sequence[Object], type_: str | None) -> Faults:
    seen_names, seen_ports = set(), set()
    for position, port in enumerate(ports):
        path = f"spec.ports[{position}]"
        name, number = port.get("name") or "", port.get("port")
        if not name and len(ports) > 1:
            yield required(f"{path}.name")
        elif name:
            yield from invalid(f"{path}.name", name, names.label(name))
            if name in seen_names:
                yield duplicate(f"{path}.name", name)
        seen_names.add(name)
        yield from invalid(f"{path}.port", number, names.port(number))
        yield from one_of(f"{path}.protocol", port.get("protocol"), names.PROTOCOLS)
        target = port.get("targetPort")
        if isinstance(target, str):
            yield from invalid(f"{path}.targetPort", target, names.port_name(target))
        elif target:
            yield from invalid(f"{path}.targetPort", target, names.port(target))
        if port.get("appProtocol"):
            yield from invalid(f"{path}.appProtocol", port["appProtocol"], names.qualified(port["appProtocol"]))
        yield from _node_port(path, port.get("nodePort"), type_)
        if (number, port.get("protocol")) in seen_ports:
            yield duplicate(path, port)
        seen_ports.add((number, port.get("protocol")))


def _node_port(path: str, number: int | None, type_: str | None) -> Faults:
    if not number:
        return
    if type_ in ("ClusterIP", "ExternalName"):
        yield forbidden(f"{path}.nodePort", f"may not be used when `type` is '{type_}'")
    elif number not in NODE_PORTS:
        why = f"provided port is not in the valid range. The range of valid ports is {NODE_PORTS[0]}-{NODE_PORTS[-1]}"
        yield from invalid(f"{path}.nodePort", number, [why])


def _session(spec: Object) -> Faults:
    seconds = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get("timeoutSeconds")
    if seconds is not None and not 0 < seconds <= _SESSION_SECONDS_MAX:
        why = f"must be greater than 0 and less than {_SESSION_SECONDS_MAX}"
        yield from invalid("spec.sessionAffinityConfig.clientIP.timeoutSeconds", seconds, [why])


def _of_load_balancers(spec: Object, type_: str | None) -> Faults:
    balanced = type_ == "LoadBalancer"
    if spec.get("loadBalancerClass") and not balanced:
        yield forbidden("spec.loadBalancerClass", "may only be used when `type` is 'LoadBalancer'")
    for position, text in enumerate(spec.get("loadBalancerSourceRanges") or ()):
        yield from invalid(f"spec.LoadBalancerSourceRanges[{position}]", text, names.network(text))
    if spec.get("healthCheckNodePort") and not (balanced and spec.get("externalTrafficPolicy") == "Local"):
        why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        yield from invalid("spec.healthCheckNodePort", spec["healthCheckNodePort"], [why])


def _traffic(spec: Object, type_: str | None) -> Faults:
    outside, inside = spec.get("externalTrafficPolicy"), spec.get("internalTrafficPolicy")
    reached = type_ in ("LoadBalancer", "NodePort") or (type_ == "ClusterIP" and spec.get("externalIPs"))
    if outside and not reached:
        why = "may only be set for externally-accessible services"
        yield from invalid("spec.externalTrafficPolicy", outside, [why])
    else:
        yield from one_of("spec.externalTrafficPolicy", outside, _POLICIES)
    yield from one_of("spec.internalTrafficPolicy", inside, _POLICIES)


def endpoint_slice(obj: Object) -> Faults:
    family, endpoints, ports = obj.get("addressType"), obj.get("endpoints") or (), obj.get("ports") or ()
    if not family:
        yield required("addressType")
    if family not in _ADDRESSES:
        yield from one_of("addressType", family, ("FQDN", "IPv4", "IPv6"))
    if len(endpoints) > _ENDPOINTS_MAX or len(ports) > _PORTS_MAX:
        yield from too_many("endpoints", len(endpoints), _ENDPOINTS_MAX)
        yield from too_many("ports", len(ports), _PORTS_MAX)
        return
    if family != "IPv4" or not _are_usual(endpoints):
        yield from _endpoints(family, endpoints)
    seen = set()
    for position, port in enumerate(ports):
        name = port.get("name") or ""
        if name in seen:
            yield duplicate(f"ports[{position}].name", name)
        seen.add(name)
        if not _is_usual_port(port):
            yield from _port(f"ports[{position}]", port)


_addresses, _node_name = methodcaller("get", "addresses"), methodcaller("get", "nodeName")
_hostname, _hints = methodcaller("get", "hostname"), methodcaller("get", "hints")


def _are_usual(endpoints: Sequence[Object]) -> bool:
    """Told of all at once, without a step of the interpreter for each: IPv4 addresses and names of nodes that are right, and nothing else that
    could be wrong. False says only that somebody has to look closely."""
    addresses = list(map(_addresses, endpoints))
    return (
        all(addresses)
        and max(map(len, addresses), default=0) <= _ADDRESSES_MAX
        and names.is_usable_ipv4.all(list(chain.from_iterable(addresses)))
        and names.is_subdomain.all(list(filter(None, map(_node_name, endpoints))))
        and not any(map(_hostname, endpoints))
        and not any(map(_hints, endpoints))
    )


def _endpoints(family: str | None, endpoints: Sequence[Object]) -> Faults:
    check = _ADDRESSES.get(family or "")
    for position, endpoint in enumerate(endpoints):
        path, addresses = f"endpoints[{position}]", endpoint.get("addresses") or ()
        if not addresses:
            yield required(f"{path}.addresses", "must contain at least 1 address")
        elif len(addresses) > _ADDRESSES_MAX:
            yield from too_many(f"{path}.addresses", len(addresses), _ADDRESSES_MAX)
        elif check:
            for number, text in enumerate(addresses):
                yield from check(f"{path}.addresses", number, text)
        yield from _where(path, endpoint)


def _address(version: int) -> Callable[[str, int, str], Faults]:
    """Of one family: that it is of the other is said of the list."""

    def check(path: str, position: int, text: str) -> Faults:
        why = list(names.address(text))
        if not why and ip_address(text).version != version:
            yield from invalid(path, text, [f"must be an IPv{version} address"])
        else:
            yield from invalid(f"{path}[{position}]", text, why or names.endpoint_address(text))

    return check


def _fqdn(path: str, position: int, text: str) -> Faults:
    yield from invalid(f"{path}[{position}]", text, names.subdomain(text.removesuffix(".")))


_ADDRESSES: dict[str, Callable[[str, int, str], Faults]] = {"IPv4": _address(4), "IPv6": _address(6), "FQDN": _fqdn}


def _where(path: str, endpoint: Object) -> Faults:
    node, host = endpoint.get("nodeName"), endpoint.get("hostname")
    if node:
        yield from invalid(f"{path}.nodeName", node, names.subdomain(node))
    if host:
        yield from invalid(f"{path}.hostname", host, names.label(host))
    for position, zone in enumerate((endpoint.get("hints") or {}).get("forZones") or ()):
        name = zone.get("name") or ""
        yield from invalid(f"{path}.hints.forZones[{position}].name", name, names.label_value(name))


def _is_usual_port(port: Object) -> bool:
    name, protocol, application = port.get("name"), port.get("protocol"), port.get("appProtocol")
    return (
        (not name or names.is_label(name))
        and (protocol is None or protocol in names.PROTOCOLS)
        and (not application or names.is_qualified(application))
    )


def _port(path: str, port: Object) -> Faults:
    if port.get("name"):
        yield from invalid(f"{path}.name", port["name"], names.label(port["name"]))
    yield from one_of(f"{path}.protocol", port.get("protocol"), names.PROTOCOLS)
    if port.get("appProtocol"):
        yield from invalid(f"{path}.appProtocol", port["appProtocol"], names.qualified(port["appProtocol"]))


def endpoints(obj: Object) -> Faults:
    for position, subset in enumerate(obj.get("subsets") or ()):
        path, ports = f"subsets[{position}]", subset.get("ports") or ()
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            yield required(path, "must specify `addresses` or `notReadyAddresses`")
        yield from _addresses_of(path, subset)
        for number, port in enumerate(ports):
            where = f"{path}.ports[{number}]"
            if len(ports) > 1 and not port.get("name"):
                yield required(f"{where}.name")
            yield from invalid(f"{where}.port", port.get("port"), names.port(port.get("port")))
            yield from _port(where, port)


def _addresses_of(path: str, subset: Object) -> Iterator[Any]:
    for field in ("addresses", "notReadyAddresses"):
        for number, address in enumerate(subset.get(field) or ()):
            where, text = f"{path}.{field}[{number}]", address.get("ip") or ""
            yield from invalid(f"{where}.ip", text, names.endpoint_address(text))
            if address.get("hostname"):
                yield from invalid(f"{where}.hostname", address["hostname"], names.label(address["hostname"]))
