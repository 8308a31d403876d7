"""Services, the names of their ports, and the Deployments behind them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from isthmus.assurance.analysis.injection import is_injected
from isthmus.assurance.analysis.items import Index, Item, Object, is_system, ports_of, selects
from isthmus.assurance.catalogue import workloads as codes
from isthmus.model.issues import Issue

_PROTOCOLS = ("grpc-web", "grpc", "http2", "http", "https", "tls", "tcp", "mongo", "mysql", "redis", "udp", "hbone")
_SIDECAR_USER = 1337


def port_names(index: Index) -> Iterator[Issue]:
    for service in index.each("Service"):
        if is_system(service.namespace) or _is_of_control_plane(service, index):
            continue
        external = service.spec.get("type") == "ExternalName"
        for number, port in enumerate(ports_of(service)):
            path, name = f"spec.ports[{number}]", port.get("name") or ""
            if port.get("protocol", "TCP") != "TCP" or port.get("appProtocol"):
                continue
            protocol = protocol_of(port)
            if external and protocol in ("", "tcp"):
                yield service.finding(codes.EXTERNAL_NAME_PORT, f"port {port.get('port')} is named {name!r}", path=path)
            elif not protocol:
                shown = f"is named {name!r}" if name else "has no name"
                yield service.finding(codes.PORT_NAME, f"port {port.get('port')} {shown}", path=path)


def _is_of_control_plane(service: Item, index: Index) -> bool:
    labels = service.labels
    return service.namespace == index.settings.root_namespace and (
        "istio" in labels or labels.get("release") == "istio"
    )


def protocol_of(port: Object) -> str:
    """What a port says its protocol is; "" when it does not."""
    said = port.get("appProtocol")
    if said:
        return str(said).lower()
    name = str(port.get("name") or "").lower()
    return next((known for known in _PROTOCOLS if name == known or name.startswith(f"{known}-")), "")


def application_users(index: Index) -> Iterator[Issue]:
    """The sidecar's own user is not captured."""
    for kind in ("Pod", "Deployment"):
        for item in index.each(kind):
            spec = item.spec if kind == "Pod" else ((item.spec.get("template") or {}).get("spec") or {})
            as_pod = (spec.get("securityContext") or {}).get("runAsUser")
            users = [
                ((container.get("securityContext") or {}).get("runAsUser") or as_pod, container.get("name"))
                for container in spec.get("containers") or []
                if container.get("name") not in ("istio-proxy", "istio-init", "discovery", "operator")
            ]
            if kind == "Pod" and item.metadata.get("ownerReferences"):
                continue
            wrong = sorted(str(name) for user, name in users if user == _SIDECAR_USER)
            if wrong:
                yield item.finding(codes.RESERVED_USER, f"runs as user {_SIDECAR_USER}: {', '.join(wrong)}")


def deployments(index: Index) -> Iterator[Issue]:
    """A workload's port can be treated in one way only, however many Services lead to it."""
    for deployment in index.each("Deployment"):
        home = index.get("Namespace", "", deployment.namespace)
        template = deployment.spec.get("template") or {}
        labels = (template.get("metadata") or {}).get("labels") or {}
        wanted = ((template.get("metadata") or {}).get("annotations") or {}).get("sidecar.istio.io/inject")
        if wanted == "false" or (home is not None and not is_injected(home) and wanted != "true"):
            continue
        services = [
            service
            for service in index.each("Service")
            if service.namespace == deployment.namespace
            and service.spec.get("selector")
            and selects(service.spec["selector"], labels)
        ]
        yield from _protocols(deployment, services)
        yield from _targets(deployment, services)


def _protocols(deployment: Item, services: list[Item]) -> Iterator[Issue]:
    by_port: dict[int, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for service in services:
        for port in ports_of(service):
            by_port[port.get("port") or 0][port.get("protocol") or "TCP"].append(service.name)
    for number, protocols in by_port.items():
        if len(protocols) > 1:
            said = "; ".join(f"{', '.join(names)}: {protocol}" for protocol, names in sorted(protocols.items()))
            yield deployment.finding(codes.SEVERAL_SERVICES, f"port {number} has several protocols ({said})")


def _targets(deployment: Item, services: list[Item]) -> Iterator[Issue]:
    by_target: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for service in services:
        for port in ports_of(service):
            target = port.get("targetPort")
            if target:
                by_target[str(target)][port.get("port") or 0].append(service.name)
    for target, ports in by_target.items():
        if len(ports) > 1:
            said = "; ".join(f"{', '.join(names)}: port {number}" for number, names in sorted(ports.items()))
            yield deployment.finding(codes.CONFLICTING_PORTS, f"port {target} is behind several ports ({said})")
