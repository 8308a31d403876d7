"""What would happen to each service if a cluster took no more traffic? Counted over the endpoints that are ready now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from isthmus.model.values import dataclass

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Effect:
    """`here` and `elsewhere` are ready endpoints. `stays`: nothing else can answer, so requests go on to this cluster."""

    namespace: str
    service: str
    here: int
    elsewhere: int
    stays: str

    @property
    def what(self) -> str:
        return f"stays: {self.stays}" if self.stays else "moves"


def effects(
    cluster: str, slices: Mapping[str, Iterable[Object]], services: Mapping[str, Iterable[Object]]
) -> list[Effect]:
    """`slices` are the EndpointSlices of each cluster, `services` its Services. Only services with ready endpoints in `cluster`."""
    ready = {name: _ready(found) for name, found in slices.items()}
    kinds = {_name(service["metadata"]): service for service in services.get(cluster, ())}
    found = []
    for name, here in sorted(ready.get(cluster, {}).items()):
        elsewhere = sum(counted.get(name, 0) for other, counted in ready.items() if other != cluster)
        service = kinds.get(name)
        if here and service is not None and _is_of_the_mesh(name, service):
            stays = _why_it_stays(service, elsewhere)
            found.append(Effect(namespace=name[0], service=name[1], here=here, elsewhere=elsewhere, stays=stays))
    return found


def _why_it_stays(service: Object, elsewhere: int) -> str:
    if service["spec"].get("clusterIP") == "None":
        return "it is headless, callers choose its Pods themselves"
    if not elsewhere:
        return "no other cluster has a ready endpoint"
    return ""


def _is_of_the_mesh(name: tuple[str, str], service: Object) -> bool:
    """Not what each cluster has for itself: its API, its control plane, its gateways."""
    own = name[0] in ("kube-system", "istio-system") or name == ("default", "kubernetes")
    return not own and service["spec"].get("type") != "ExternalName"


def _ready(slices: Iterable[Object]) -> dict[tuple[str, str], int]:
    counted: dict[tuple[str, str], int] = {}
    for slice_ in slices:
        metadata = slice_["metadata"]
        name = (metadata.get("namespace", ""), (metadata.get("labels") or {}).get("kubernetes.io/service-name", ""))
        ready = [e for e in slice_.get("endpoints") or () if (e.get("conditions") or {}).get("ready") is not False]
        counted[name] = counted.get(name, 0) + len(ready)
    return counted


def _name(metadata: Object) -> tuple[str, str]:
    return metadata.get("namespace", ""), metadata["name"]
