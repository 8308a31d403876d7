"""ProxyConfig's own words, as people write them and as agents are told them (JSON), and what is said of words that nothing follows.

Nothing here raises: what cannot be used is a Word with the reason, and each reader decides what becomes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from isthmus.model.addresses import is_ip, is_port
from isthmus.model.durations import seconds_of
from isthmus.model.proxy_config import ClientCertificates, GatewayTopology, ProxyConfig, StatisticsKept, Texts
from isthmus.model.regular_expressions import not_re2
from isthmus.model.values import dataclass

_THREADS_MAX = 256


@dataclass(frozen=True, slots=True)
class Word:
    """A field that nothing follows, and why. `is_wrong`: somebody relies on it, or its value cannot be used."""

    field: str
    why: str
    is_wrong: bool


def read(said: Mapping[str, Any]) -> tuple[ProxyConfig, tuple[Word, ...]]:
    """As much as can be followed; and the rest."""
    found: dict[str, Any] = {}
    rest: list[Word] = []
    for name in sorted(said, key=str):
        value = said[name]
        if value is None:
            continue
        try:
            if name in _READERS:
                attribute, reader = _READERS[name]
                found[attribute] = reader(value)
            else:
                rest += _not_followed(str(name), value)
        except ValueError as error:
            rest.append(Word(str(name), str(error), is_wrong=True))
    return ProxyConfig(**found), tuple(rest)


def written(config: ProxyConfig) -> dict[str, Any]:
    """The same as JSON; without what is not said. `read` takes it back."""
    kept, before = config.statistics, config.topology
    found: dict[str, Any] = {
        "concurrency": config.concurrency,
        "discoveryAddress": config.discovery_address,
        "drainDuration": _duration(config.drain_seconds),
        "terminationDrainDuration": _duration(config.termination_drain_seconds),
        "holdApplicationUntilProxyStarts": config.hold_application,
        "proxyMetadata": dict(config.metadata),
        "runtimeValues": dict(config.runtime),
        "statsdUdpAddress": config.statsd,
        "fileFlushInterval": f"{config.flush_milliseconds}ms" if config.flush_milliseconds is not None else None,
        "fileFlushMinSizeKb": config.flush_kilobytes,
    }
    if kept:
        lists = zip(_STATISTICS, (kept.prefixes, kept.suffixes, kept.expressions), strict=True)
        found["proxyStatsMatcher"] = {name: list(values) for name, values in lists if values}
    if before:
        found["gatewayTopology"] = {
            "numTrustedProxies": before.trusted_proxies,
            "forwardClientCertDetails": before.client_certificates.value,
            **({"proxyProtocol": {}} if before.proxy_protocol else {}),
        }
    return {name: value for name, value in found.items() if value not in (None, "", {})}


def _whole(value: object, high: int = 2**31 - 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= high:
        raise ValueError(f"{value!r} is not a whole number between 0 and {high}")
    return value


def _threads(value: object) -> int:
    return _whole(value, _THREADS_MAX)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is neither true nor false")
    return value


def _seconds(value: object) -> float:
    return seconds_of(str(value))


def _texts(value: object) -> Texts:
    if not isinstance(value, Mapping) or not all(isinstance(each, str) for pair in value.items() for each in pair):
        raise ValueError("is not a map of texts")
    return tuple(sorted(value.items()))


def _list(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise ValueError(f"{value!r} is not a list of texts")
    return tuple(value)


def _addresses(value: object) -> str:
    """One or several, with commas between them."""
    for part in str(value).split(","):
        host, _, port = part.strip().rpartition(":")
        if not host or not is_port(port):
            raise ValueError(f"discoveryAddress {part.strip()!r} is not host:port")
    return str(value)


def _statsd(value: object) -> str:
    host, _, port = str(value).rpartition(":")
    if not is_ip(host.strip("[]")):
        raise ValueError(f"{value!r} is not an IP address and a port: Envoy sends statistics to addresses only")
    if not is_port(port):
        raise ValueError(f"{port!r} is not a port")
    return str(value)


def _statistics(value: object) -> StatisticsKept:
    if not isinstance(value, Mapping):
        raise ValueError("is not an object")
    for name in sorted(value.keys() - set(_STATISTICS), key=str):
        raise ValueError(f"{name} is none of its fields: {', '.join(_STATISTICS)}")
    prefixes, suffixes, expressions = (_list(value.get(name) or []) for name in _STATISTICS)
    for each in expressions:
        if why := not_re2(each):
            raise ValueError(f"{each!r} is not a regular expression: {why}")
    return StatisticsKept(prefixes=prefixes, suffixes=suffixes, expressions=expressions)


def _topology(value: object) -> GatewayTopology:
    if not isinstance(value, Mapping):
        raise ValueError("is not an object")
    details = value.get("forwardClientCertDetails") or "UNDEFINED"
    if not isinstance(details, str) or details not in ("UNDEFINED", *ClientCertificates.__members__):
        raise ValueError(f"forwardClientCertDetails {details!r} is none of {', '.join(ClientCertificates)}")
    return GatewayTopology(
        trusted_proxies=_whole(value.get("numTrustedProxies", 0), 255),
        client_certificates=ClientCertificates.SANITIZE_SET if details == "UNDEFINED" else ClientCertificates(details),
        proxy_protocol=value.get("proxyProtocol") is not None,
    )


def _milliseconds(value: object) -> int:
    found = round(_seconds(value) * 1000)
    if found < 1:
        raise ValueError("is shorter than a millisecond")
    return found


def _duration(seconds: float | None) -> str | None:
    return None if seconds is None else f"{round(seconds * 1000)}ms"


_STATISTICS = ("inclusionPrefixes", "inclusionSuffixes", "inclusionRegexps")
_READERS: dict[str, tuple[str, Callable[[object], Any]]] = {
    "concurrency": ("concurrency", _threads),
    "discoveryAddress": ("discovery_address", _addresses),
    "drainDuration": ("drain_seconds", _seconds),
    "terminationDrainDuration": ("termination_drain_seconds", _seconds),
    "holdApplicationUntilProxyStarts": ("hold_application", _flag),
    "proxyMetadata": ("metadata", _texts),
    "runtimeValues": ("runtime", _texts),
    "proxyStatsMatcher": ("statistics", _statistics),
    "statsdUdpAddress": ("statsd", _statsd),
    "fileFlushInterval": ("flush_milliseconds", _milliseconds),
    "fileFlushMinSizeKb": ("flush_kilobytes", _whole),
    "gatewayTopology": ("topology", _topology),
}
_AS_IT_IS: dict[str, tuple[object, ...]] = {
    "configPath": ("", "./etc/istio/proxy", "/etc/istio/proxy"),
    "binaryPath": ("", "/usr/local/bin/envoy"),
    "serviceCluster": ("", "istio-proxy"),
    "controlPlaneAuthPolicy": ("MUTUAL_TLS",),
    "interceptionMode": ("REDIRECT",),
    "statusPort": (15020,),
    "proxyAdminPort": (15000,),
    "statNameLength": (189,),
    "tracingServiceName": ("APP_LABEL_AND_NAMESPACE",),
    "statsCompression": (False,),
    "image": ({}, {"imageType": ""}, {"imageType": "default"}),
    "meshId": ("",),
}
"""Values that say no more than is so anyway: Istio writes many of them out."""

_WITHOUT_EFFECT = {
    "configPath": "the proxy's files are in a folder that it is given",
    "binaryPath": "the image has one Envoy",
    "serviceCluster": "Envoy is called by its workload and namespace",
    "tracingServiceName": "traces call workloads by their canonical name and namespace",
    "parentShutdownDuration": "an Envoy is never replaced by another one while it runs",
    "discoveryRefreshDelay": "configuration is sent when it changes",
    "proxyAdminPort": "Envoy's administration is on a socket that only its agent can open",
    "statNameLength": "names of statistics have no length limit",
    "availabilityZone": "the Node's labels say the zone",
    "statusPort": "the agent always answers on 15020",
    "interceptionMode": "connections are redirected",
    "controlPlaneAuthPolicy": "the control plane is always asked over mutual TLS",
    "customConfigFile": "Envoy's first configuration is made by the agent",
    "proxyBootstrapTemplatePath": "Envoy's first configuration is made by the agent",
    "zipkinAddress": "say it in MeshConfig's extensionProviders",
    "tracing": "a Telemetry says for which workloads traces are kept, and MeshConfig to whom they go",
    "envoyAccessLogService": "say it in MeshConfig's extensionProviders (envoyHttpAls)",
    "envoyMetricsService": "Prometheus asks for statistics, or statsdUdpAddress has them sent",
    "extraStatTags": "labels that a Telemetry adds need no declaration",
    "image": "there is one type of image",
    "meshId": "the control plane says the mesh's id",
    "readinessProbe": "a Pod's own probes are led through the agent",
    "caCertificatesPem": "roots are in the ConfigMap istio-ca-root-cert",
    "proxyHeaders": "headers that Envoy adds are not chosen",
    "statsCompression": "statistics are not compressed",
    "statsEvictionInterval": "statistics are kept for as long as the proxy runs",
    "sds": "certificates always come from the agent, over a socket",
}
_RELIED_ON = {
    "privateKeyProvider": "keys are the agent's, made for each workload and held in memory: Envoy leaves no handshake to "
    "another provider, for the hardware drivers are not in the Envoy that is run",
}


def _not_followed(name: str, value: object) -> Iterator[Word]:
    if value in _AS_IT_IS.get(name, ()):
        return
    if name in _RELIED_ON:
        yield Word(name, _RELIED_ON[name], is_wrong=True)
    else:
        yield Word(name, _WITHOUT_EFFECT.get(name, "is no field of ProxyConfig"), is_wrong=False)
