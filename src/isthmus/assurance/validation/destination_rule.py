"""What a DestinationRule means beyond its shape."""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.assurance.validation.terms import Object, bad_host, dns_label, export_to, labels, positive_port


def destination_rule(item: Object, warnings: list[str]) -> Iterator[str]:
    spec = item.get("spec") or {}
    if bad_host(spec.get("host") or ""):
        yield f"spec.host: {bad_host(spec.get('host') or '')}"
    yield from export_to(spec.get("exportTo") or [], "spec.exportTo")
    if spec.get("workloadSelector") and any(value != "." for value in spec.get("exportTo") or []):
        yield "spec.exportTo: a rule with workloadSelector is for its own namespace only"
    yield from _policy(spec.get("trafficPolicy"), "spec.trafficPolicy", warnings)
    for index, subset in enumerate(spec.get("subsets") or []):
        path = f"spec.subsets[{index}]"
        if not dns_label(subset["name"]):
            yield f"{path}.name: {subset['name']!r} is not a DNS label"
        yield from labels(subset.get("labels") or {}, f"{path}.labels")
        yield from _policy(subset.get("trafficPolicy"), f"{path}.trafficPolicy", warnings)


def _policy(policy: Object | None, path: str, warnings: list[str]) -> Iterator[str]:
    if policy is None:
        return
    if not policy:
        yield f"{path}: says nothing"
    if policy.get("connectionPool") == {}:
        yield f"{path}.connectionPool: needs tcp or http"
    yield from _balancer(policy, path, warnings)
    yield from _tls(policy.get("tls"), f"{path}.tls", warnings)
    for inner in policy.get("portLevelSettings") or []:
        yield from positive_port((inner.get("port") or {}).get("number"), f"{path}.portLevelSettings.port")
        yield from _policy(
            {key: value for key, value in inner.items() if key != "port"}, path + ".portLevelSettings", warnings
        )


def _balancer(policy: Object, path: str, warnings: list[str]) -> Iterator[str]:
    balancer = policy.get("loadBalancer") or {}
    for key in ("localityLbSetting", "zoneAwareLbSetting"):
        setting = balancer.get(key)
        if setting is None:
            continue
        yield from _locality(setting, f"{path}.loadBalancer.{key}")
        if key == "zoneAwareLbSetting":
            for label in setting.get("failoverPriority") or []:
                if label.partition("=")[0] == "topology.kubernetes.io/zone":
                    yield f"{path}.loadBalancer.{key}: the zone is not a failover priority here"
        if (setting.get("failover") or setting.get("failoverPriority")) and policy.get("outlierDetection") is None:
            warnings.append(f"{path}.loadBalancer.{key}: without outlierDetection nothing fails over")


def _locality(setting: Object, path: str) -> Iterator[str]:
    distribute, failover = setting.get("distribute") or [], setting.get("failover") or []
    priorities = setting.get("failoverPriority") or []
    if distribute and (failover or priorities):
        yield f"{path}: distribute excludes failover"
    for entry in distribute:
        shares = entry.get("to") or {}
        if sum(shares.values()) != 100 or 0 in shares.values():
            yield f"{path}.distribute: the weights must be above 0 and sum up to 100"
        yield from _localities(list(shares), f"{path}.distribute")
    yield from _localities([entry.get("from") or "" for entry in distribute], f"{path}.distribute")
    for move in failover:
        origin, target = move.get("from") or "", move.get("to") or ""
        if not origin or not target or origin == target or any(char in origin + target for char in "*/"):
            yield f"{path}.failover: moves from one region to another, not {origin!r} to {target!r}"
    if len({label.partition("=")[0] for label in priorities}) != len(priorities):
        yield f"{path}.failoverPriority: a label is given twice"


def _localities(given: list[str], path: str) -> Iterator[str]:
    """Region/zone/subzone, a wildcard only at the end, and no place covered twice."""
    seen: list[tuple[str, ...]] = []
    for locality in given:
        parts = tuple(locality.split("/"))
        if "" in parts or "*" in parts[:-1] or len(parts) > 3:
            yield f"{path}: {locality!r} is not a locality"
        head = parts[:-1] if parts[-1] == "*" else parts
        for other in seen:
            short, long = sorted((head, other), key=len)
            if long[: len(short)] == short:
                yield f"{path}: {locality!r} overlaps with another"
        seen.append(head)


def _tls(tls: Object | None, path: str, warnings: list[str]) -> Iterator[str]:
    if not tls:
        return
    mode = tls.get("mode", "DISABLE")
    if tls.get("insecureSkipVerify") and (tls.get("caCertificates") or tls.get("subjectAltNames")):
        yield f"{path}: insecureSkipVerify excludes caCertificates and subjectAltNames"
    files = tls.get("clientCertificate"), tls.get("privateKey")
    if mode == "MUTUAL" and not tls.get("credentialName") and not all(files):
        yield f"{path}: MUTUAL needs credentialName, or clientCertificate and privateKey"
    if tls.get("credentialName") and (any(files) or tls.get("caCertificates")) and mode in ("MUTUAL", "SIMPLE"):
        yield f"{path}: credentialName excludes certificates in files"
    if mode == "ISTIO_MUTUAL" and (any(files) or tls.get("caCertificates")):
        yield f"{path}: ISTIO_MUTUAL brings its own certificates"
