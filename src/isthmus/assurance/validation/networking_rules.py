"""What the smaller networking kinds mean beyond their shapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from isthmus.assurance.validation.terms import (
    Object,
    bad_host,
    bad_socket_path,
    dns_label,
    export_to,
    is_cidr,
    is_ip,
    labels,
    positive_port,
    selector,
    targets,
)  # fmt: skip
from isthmus.assurance.validation.virtual_service import destination

_PROTOCOLS = {
    "http", "https", "grpc", "grpc-web", "http2", "tcp", "tls", "mongo", "mysql", "redis", "udp", "hbone", "auto", "http_proxy", "http3",
}  # fmt: skip
_KEYED = {"SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL"}


def gateway(item: Object, warnings: list[str]) -> Iterator[str]:
    servers = (item.get("spec") or {}).get("servers") or []
    if not servers:
        yield "spec.servers: at least one is required"
    for index, server in enumerate(servers):
        path, port, tls = f"spec.servers[{index}]", server["port"], server.get("tls")
        bind = server.get("bind") or ""
        yield from _port(port, path, may_be_zero=bind.startswith("unix://"))
        if not bind.startswith("unix://") and bind and not is_ip(bind):
            yield f"{path}.bind: {bind!r} is neither an address nor a socket"
        if bind.startswith("unix://") and port.get("number"):
            yield f"{path}.port.number: must be 0 for a socket"
        if not server["hosts"]:
            yield f"{path}.hosts: at least one is required"
        for host in server["hosts"]:
            namespace, slash, name = host.rpartition("/")
            if slash and namespace not in ("*", ".") and not dns_label(namespace):
                yield f"{path}.hosts: {namespace!r} is not a namespace"
            if bad_host(name):
                yield f"{path}.hosts: {bad_host(name)}"
            elif "." not in name and not name.startswith("*"):
                yield f"{path}.hosts: {name!r}: short names are not supported"
        protocol = str(port.get("protocol", "")).lower()
        if protocol in ("https", "tls") and tls is None:
            yield f"{path}.tls: is required for {protocol}"
        if protocol in ("http", "http2", "grpc", "tcp", "grpc-web") and (tls or {}).get("mode") and protocol != "tcp":
            yield f"{path}.tls: a server of {protocol} has none"
        if tls and tls.get("mode", "PASSTHROUGH" if protocol != "https" else "SIMPLE"):
            yield from server_tls(tls, f"{path}.tls")
    names = Counter(server["port"].get("name") for server in servers)
    yield from (f"spec.servers: port name {name!r} is given twice" for name, count in names.items() if count > 1)


def server_tls(tls: Object, path: str) -> Iterator[str]:
    mode = tls.get("mode")
    named = [
        key for key in ("credentialName", "credentialNames", "serverCertificate", "tlsCertificates") if tls.get(key)
    ]
    if mode == "ISTIO_MUTUAL" and (named or tls.get("privateKey") or tls.get("caCertificates")):
        yield f"{path}: ISTIO_MUTUAL brings its own certificates"
    if mode not in _KEYED:
        return
    if len(named) > 1:
        yield f"{path}: one of {', '.join(named)} may be set"
    if "credentialName" in named or "credentialNames" in named:
        return
    pairs = tls.get("tlsCertificates") or [tls]
    for pair in pairs:
        if not pair.get("serverCertificate") or not pair.get("privateKey"):
            yield f"{path}: {mode} needs a server certificate and a private key"
    if mode != "SIMPLE" and not tls.get("caCertificates") and not tls.get("caCertCredentialName"):
        yield f"{path}: {mode} needs caCertificates"


def _port(port: Object, path: str, may_be_zero: bool = False) -> Iterator[str]:
    if not may_be_zero:
        yield from positive_port(port.get("number"), f"{path}.port.number")
    if port.get("protocol") and port["protocol"].lower() not in _PROTOCOLS:
        yield f"{path}.port.protocol: {port['protocol']!r} is not known"
    if not port.get("name"):
        yield f"{path}.port.name: is required"


def service_entry(item: Object, warnings: list[str]) -> Iterator[str]:
    spec = item["spec"]
    resolution, endpoints = spec.get("resolution", "NONE"), spec.get("endpoints") or []
    ports = spec.get("ports") or []
    yield from export_to(spec.get("exportTo") or [], "spec.exportTo", none_allowed=True)
    yield from selector((spec.get("workloadSelector") or {}).get("labels") or {}, "spec.workloadSelector")
    for host in spec["hosts"]:
        if host == "*" or bad_host(host):
            yield f"spec.hosts: {bad_host(host) or '* is not a host'}"
        elif host.startswith("*") and resolution in ("DNS", "DNS_ROUND_ROBIN") and not endpoints:
            yield f"spec.hosts: {host!r} cannot be looked up"
    for key in ("name", "number"):
        counts = Counter(port[key] for port in ports)
        yield from (f"spec.ports: {key} {value} is given twice" for value, count in counts.items() if count > 1)
    for index, port in enumerate(ports):
        yield from _port(port, f"spec.ports[{index}]")
    for address in spec.get("addresses") or []:
        if not is_cidr(address):
            yield f"spec.addresses: {address!r} is neither an address nor a CIDR"
        elif "/" in address and resolution not in ("NONE", "STATIC"):
            yield f"spec.addresses: a CIDR is only for NONE and STATIC, not for {resolution}"
    if resolution == "NONE" and endpoints:
        yield "spec.endpoints: NONE has none"
    if resolution == "DNS_ROUND_ROBIN" and len(endpoints) > 1:
        yield "spec.endpoints: DNS_ROUND_ROBIN has at most one"
    for index, endpoint in enumerate(endpoints):
        yield from _workload(endpoint, f"spec.endpoints[{index}]", resolution == "STATIC")
        if str(endpoint.get("address")).startswith("unix://") and len(ports) > 1:
            yield f"spec.endpoints[{index}]: a socket serves one port"


def workload_entry(item: Object, warnings: list[str]) -> Iterator[str]:
    yield from _workload(item["spec"], "spec")


def workload_group(item: Object, warnings: list[str]) -> Iterator[str]:
    spec = item["spec"]
    yield from labels((spec.get("metadata") or {}).get("labels") or {}, "spec.metadata.labels")
    yield from labels(spec["template"].get("labels") or {}, "spec.template.labels")


def _workload(entry: Object, path: str, only_addresses: bool = False) -> Iterator[str]:
    address = entry.get("address") or ""
    if address.startswith("unix://"):
        if bad_socket_path(address):
            yield f"{path}.address: {bad_socket_path(address)}"
        if entry.get("ports"):
            yield f"{path}.ports: a socket has none"
    elif not address:
        if not entry.get("network"):
            yield f"{path}.address: is required where no network is given"
    elif not is_ip(address) and (only_addresses or bad_host(address) or address.startswith("*")):
        yield f"{path}.address: {address!r} is not an address of this kind"
    for name in entry.get("ports") or {}:
        if not dns_label(name):
            yield f"{path}.ports: {name!r} is not a port name"
    yield from labels(entry.get("labels") or {}, f"{path}.labels")


def sidecar(item: Object, warnings: list[str]) -> Iterator[str]:
    spec = item.get("spec") or {}
    ingress, egress = spec.get("ingress") or [], spec.get("egress") or []
    yield from selector((spec.get("workloadSelector") or {}).get("labels") or {}, "spec.workloadSelector")
    if not ingress and not egress and not spec.get("outboundTrafficPolicy") and not spec.get("inboundConnectionPool"):
        yield "spec: says nothing"
    counts = Counter(listener["port"].get("number") for listener in ingress)
    yield from (f"spec.ingress: port {port} is given twice" for port, count in counts.items() if count > 1)
    for index, listener in enumerate(ingress):
        path, bind, end = f"spec.ingress[{index}]", listener.get("bind") or "", listener.get("defaultEndpoint") or ""
        yield from _port(listener["port"], path)
        if bind and not is_ip(bind):
            yield f"{path}.bind: {bind!r} is not an address"
        if end and not end.startswith("unix://") and not end.startswith(("127.0.0.1:", "0.0.0.0:", "[::1]:", "[::]:")):
            yield f"{path}.defaultEndpoint: {end!r} is not this machine"
        tls = listener.get("tls")
        if tls and (
            tls.get("mode") in ("ISTIO_MUTUAL", "AUTO_PASSTHROUGH")
            or tls.get("subjectAltNames")
            or tls.get("credentialNames")
        ):
            yield f"{path}.tls: this setting is not supported in a sidecar"
        elif tls:
            yield from server_tls(tls, f"{path}.tls")
    binds = Counter(listener.get("bind") or str((listener.get("port") or {}).get("number")) for listener in egress)
    yield from (f"spec.egress: {bind} is given twice" for bind, count in binds.items() if count > 1)
    for index, listener in enumerate(egress):
        path, bind = f"spec.egress[{index}]", listener.get("bind") or ""
        if not listener["hosts"]:
            yield f"{path}.hosts: at least one is required"
        for host in listener["hosts"]:
            namespace, slash, name = host.partition("/")
            if not slash or (namespace not in ("*", ".", "~") and not dns_label(namespace)) or bad_host(name):
                yield f"{path}.hosts: {host!r} is not NAMESPACE/HOST"
        if bind.startswith("unix://") and bad_socket_path(bind):
            yield f"{path}.bind: {bad_socket_path(bind)}"
        elif bind and not bind.startswith("unix://") and not is_ip(bind):
            yield f"{path}.bind: {bind!r} is neither an address nor a socket"
    proxy = (spec.get("outboundTrafficPolicy") or {}).get("egressProxy")
    if proxy:
        yield from destination(proxy, "spec.outboundTrafficPolicy.egressProxy")
        if not proxy.get("port"):
            yield "spec.outboundTrafficPolicy.egressProxy.port: is required"


def proxy_config(item: Object, warnings: list[str]) -> Iterator[str]:
    matched = ((item.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
    yield from selector(matched, "spec.selector")


def envoy_filter(item: Object, warnings: list[str]) -> Iterator[str]:
    spec = item.get("spec") or {}
    yield from targets(spec)
    for index, patch in enumerate(spec.get("configPatches") or []):
        match = patch.get("match") or {}
        others = [key for key in ("listener", "routeConfiguration", "cluster") if match.get(key) is not None]
        if match.get("waypoint") is not None and match.get("context") != "WAYPOINT":
            yield f"spec.configPatches[{index}].match: waypoint is only for context WAYPOINT"
        if match.get("context") == "WAYPOINT" and others:
            yield f"spec.configPatches[{index}].match: context WAYPOINT has no {others[0]}"
