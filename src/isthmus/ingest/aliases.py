"""Services of type ExternalName: another name for a service of the mesh, or for something outside.

The cluster's DNS answers such a name with the other one, so requests arrive at the other service's address under a name that nobody would know.
A name for something that is no service stays DNS's matter alone, and is passed through like anything outside.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

from isthmus.api.core import Service as ServiceObject
from isthmus.ingest.cache import IngestCache
from isthmus.ingest.inputs import ClusterInput
from isthmus.model.names import Hostname, Namespace, ServiceKey
from isthmus.model.services import Service

_Name = tuple[Namespace, str]
_CHAIN_MAX = 8
"""Names that lead to names that lead to names: longer chains, and circles, lead nowhere."""


def apply_aliases(
    services: dict[ServiceKey, Service], clusters: Iterable[ClusterInput], dns_domain: str, cache: IngestCache
) -> None:
    """Gives services their other names, in place. Where clusters differ the first by id says where a name leads."""
    leads_to: dict[Hostname, tuple[_Name, Hostname]] = {}
    for cluster in sorted(clusters, key=lambda cluster: cluster.id):
        for (namespace, name), obj in sorted(cluster.objects.get("Service", {}).items()):
            if isinstance(obj, ServiceObject) and obj.spec.type == "ExternalName":
                host = Hostname(f"{name}.{namespace}.svc.{dns_domain}")
                target = Hostname(obj.spec.external_name.lower().removesuffix("."))
                leads_to.setdefault(host, ((Namespace(namespace), name), target))
    by_host = {key.hostname: key for key in sorted(services, reverse=True)} if leads_to else {}
    found: dict[ServiceKey, list[_Name]] = defaultdict(list)
    for host, (alias, _) in leads_to.items():
        key = by_host.get(_end_of(host, leads_to))
        if key is not None and host not in by_host:
            found[key].append(alias)
    for key, names in found.items():
        service, aliases = services[key], tuple(sorted(names))
        services[key] = cache.once(
            ("aliases", key, aliases),
            (service,),
            lambda service=service, aliases=aliases: replace(service, aliases=aliases),  # type: ignore[misc]
        )


def _end_of(host: Hostname, leads_to: Mapping[Hostname, tuple[_Name, Hostname]]) -> Hostname:
    for _ in range(_CHAIN_MAX):
        if host not in leads_to:
            break
        host = leads_to[host][1]
    return host
