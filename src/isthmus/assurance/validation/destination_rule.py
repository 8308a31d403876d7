"""What a DestinationRule means beyond its shape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from isthmus.assurance.catalogue import validation as codes
from isthmus.assurance.validation.localities import locality_setting
from isthmus.assurance.validation.problems import Problem
from isthmus.assurance.validation.terms import Object, bad_host, dns_label, export_to, labels, positive_port, selector

# Envoy's limit for Maglev tables (MaglevLbConfig.table_size).
_TABLE_MAX = 5000011


def destination_rule(item: Object) -> Iterator[Problem]:
    spec = item.get("spec") or {}
    problem = bad_host(spec.get("host") or "")
    if problem:
        yield Problem(codes.NOT_A_HOST, "spec.host", problem)
    yield from export_to(spec.get("exportTo") or [], "spec.exportTo")
    chosen = spec.get("workloadSelector")
    if chosen is not None:
        yield from selector(chosen.get("matchLabels") or {}, "spec.workloadSelector.matchLabels")
    if chosen and any(value != "." for value in spec.get("exportTo") or []):
        yield Problem(
            codes.CONTRADICTION,
            "spec.exportTo",
            "a rule with workloadSelector is for its own namespace only",
            "export it to . alone",
        )
    yield from _policy(spec.get("trafficPolicy"), "spec.trafficPolicy")
    counts = Counter(subset["name"] for subset in spec.get("subsets") or [])
    for index, subset in enumerate(spec.get("subsets") or []):
        path = f"spec.subsets[{index}]"
        if not dns_label(subset["name"]):
            yield Problem(codes.NOT_A_NAME, f"{path}.name", f"{subset['name']!r} is not a DNS label")
        elif counts[subset["name"]] > 1:
            counts[subset["name"]] = 0
            yield Problem(codes.TWICE, f"{path}.name", f"subset {subset['name']} is given twice")
        yield from labels(subset.get("labels") or {}, f"{path}.labels")
        yield from _policy(subset.get("trafficPolicy"), f"{path}.trafficPolicy")


def _policy(policy: Object | None, path: str) -> Iterator[Problem]:
    if policy is None:
        return
    if not policy:
        yield Problem(codes.SAYS_NOTHING, path, "says nothing")
    yield from _pool(policy, path)
    yield from _balancer(policy, path)
    yield from _outliers(policy.get("outlierDetection"), f"{path}.outlierDetection")
    yield from client_tls(policy.get("tls"), f"{path}.tls")
    yield from _tunnel(policy.get("tunnel"), f"{path}.tunnel")
    seen: set[object] = set()
    for index, inner in enumerate(policy.get("portLevelSettings") or []):
        where = f"{path}.portLevelSettings[{index}]"
        number = (inner.get("port") or {}).get("number")
        yield from positive_port(number, f"{where}.port.number")
        if number in seen:
            yield Problem(codes.TWICE, f"{where}.port.number", f"port {number} is given twice")
        seen.add(number)
        yield from _policy({key: value for key, value in inner.items() if key != "port"}, where)


def _pool(policy: Object, path: str) -> Iterator[Problem]:
    pool = policy.get("connectionPool")
    if pool == {}:
        yield Problem(codes.SAYS_NOTHING, f"{path}.connectionPool", "needs tcp or http")
    alive = ((pool or {}).get("http") or {}).get("http2KeepAlive")
    if alive is not None:
        for key in ("interval", "timeout"):
            if not alive.get(key):
                yield Problem(codes.MISSING, f"{path}.connectionPool.http.http2KeepAlive.{key}", "is required")


def _balancer(policy: Object, path: str) -> Iterator[Problem]:
    balancer = policy.get("loadBalancer") or {}
    yield from _hash(balancer.get("consistentHash"), f"{path}.loadBalancer.consistentHash")
    if balancer.get("simple") == "LEAST_CONN":
        yield Problem(
            codes.OUTDATED, f"{path}.loadBalancer.simple", "LEAST_CONN is outdated", "use LEAST_REQUEST, its new name"
        )
    if balancer.get("warmupDurationSecs"):
        yield Problem(
            codes.OUTDATED,
            f"{path}.loadBalancer.warmupDurationSecs",
            "warmupDurationSecs is outdated",
            "use warmup.duration",
        )
    for key in ("localityLbSetting", "zoneAwareLbSetting"):
        setting = balancer.get(key)
        if setting is None:
            continue
        where = f"{path}.loadBalancer.{key}"
        yield from locality_setting(setting, where, zone_aware=key == "zoneAwareLbSetting")
        if (setting.get("failover") or setting.get("failoverPriority")) and policy.get("outlierDetection") is None:
            yield Problem(
                codes.HAS_NO_EFFECT,
                where,
                "without outlierDetection nothing fails over",
                f"set {path}.outlierDetection",
            )


def _hash(given: Object | None, path: str) -> Iterator[Problem]:
    if given is None:
        return
    keys = ("httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName")
    if not any(given.get(key) for key in keys):
        yield Problem(
            codes.HAS_NO_EFFECT, path, "has nothing to hash, so requests are spread at random", f"set {keys[0]}"
        )
    for index, attribute in enumerate((given.get("httpCookie") or {}).get("attributes") or []):
        if not attribute["name"]:
            yield Problem(
                codes.SAYS_NOTHING, f"{path}.httpCookie.attributes[{index}].name", "an attribute must have a name"
            )
    size = (given.get("maglev") or {}).get("tableSize")
    if size is not None and (size > _TABLE_MAX or not _is_prime(size)):
        yield Problem(
            codes.OUT_OF_BOUNDS,
            f"{path}.maglev.tableSize",
            f"{size} is not a prime number up to {_TABLE_MAX}",
            "use a prime number, such as 65537",
        )
    if given.get("minimumRingSize"):
        yield Problem(
            codes.OUTDATED, f"{path}.minimumRingSize", "minimumRingSize is outdated", "use ringHash.minimumRingSize"
        )


def _is_prime(number: int) -> bool:
    if number < 2:
        return False
    return all(number % divisor for divisor in range(2, int(number**0.5) + 1))


def _outliers(given: Object | None, path: str) -> Iterator[Problem]:
    if not given:
        return
    if given.get("consecutiveLocalOriginFailures") is not None and not given.get("splitExternalLocalOriginErrors"):
        yield Problem(
            codes.NEEDS,
            f"{path}.consecutiveLocalOriginFailures",
            "counts only with splitExternalLocalOriginErrors",
            "set splitExternalLocalOriginErrors: true",
        )
    if given.get("consecutiveErrors"):
        yield Problem(
            codes.OUTDATED,
            f"{path}.consecutiveErrors",
            "consecutiveErrors is outdated",
            "use consecutive5xxErrors or consecutiveGatewayErrors",
        )


def _tunnel(given: Object | None, path: str) -> Iterator[Problem]:
    if not given:
        return
    if given.get("protocol") not in (None, "", "CONNECT", "POST"):
        yield Problem(codes.UNKNOWN_VALUE, f"{path}.protocol", f"{given['protocol']!r} is neither CONNECT nor POST")
    if bad_host(given["targetHost"]) or given["targetHost"].startswith("*"):
        yield Problem(codes.NOT_A_HOST, f"{path}.targetHost", f"{given['targetHost']!r} is not a host to tunnel to")
    yield from positive_port(given["targetPort"], f"{path}.targetPort")


def client_tls(tls: Object | None, path: str) -> Iterator[Problem]:
    """How a client speaks TLS to a host."""
    if not tls:
        return
    mode = tls.get("mode", "DISABLE")
    if tls.get("insecureSkipVerify") and (tls.get("caCertificates") or tls.get("subjectAltNames")):
        yield Problem(
            codes.CONTRADICTION,
            f"{path}.insecureSkipVerify",
            "insecureSkipVerify excludes caCertificates and subjectAltNames",
        )
    files = tls.get("clientCertificate"), tls.get("privateKey")
    if mode == "MUTUAL" and not tls.get("credentialName") and not all(files):
        yield Problem(codes.BAD_CREDENTIALS, path, "MUTUAL needs credentialName, or clientCertificate and privateKey")
    if tls.get("credentialName") and (any(files) or tls.get("caCertificates")) and mode in ("MUTUAL", "SIMPLE"):
        yield Problem(codes.BAD_CREDENTIALS, path, "credentialName excludes certificates in files")
    if mode == "ISTIO_MUTUAL" and (any(files) or tls.get("caCertificates")):
        yield Problem(codes.BAD_CREDENTIALS, path, "ISTIO_MUTUAL brings its own certificates")
    if mode == "DISABLE" and any(tls.get(key) for key in ("sni", "caCertificates", "credentialName", *("privateKey",))):
        yield Problem(codes.HAS_NO_EFFECT, path, "has settings, but its mode is DISABLE", "set the mode")
