"""What a MeshConfig and a MeshNetworks may look like, and what they mean. Keys that nobody here reads are warnings: they may be Istio's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from isthmus.assurance.catalogue import validation as codes
from isthmus.assurance.validation.localities import locality_setting
from isthmus.assurance.validation.networking import HTTP_RETRIES, LOCALITY, TCP_KEEPALIVE, ZONE_AWARE
from isthmus.assurance.validation.problems import Problem, entry
from isthmus.assurance.validation.shapes import (
    ANY,
    FLAG,
    PORT,
    WORDS,
    Shape,
    duration,
    enum,
    many,
    mapping,
    number,
    part,
    problems_of_shape,
    record,
    text,
    whole,
)
from isthmus.assurance.validation.terms import Object, bad_host, bad_url, dns_label, export_to, is_cidr
from isthmus.ingest.mesh_config import not_read
from isthmus.ingest.providers import providers_of
from isthmus.ingest.proxy_configs import default_config_of
from isthmus.ingest.telemetry_providers import telemetry_defaults_of
from isthmus.model.addresses import is_ip

_SELECTORS = many(
    record({
        "matchLabels": mapping(text()),
        "matchExpressions": many(record(
            {"key": text(low=1), "operator": enum("In", "NotIn", "Exists", "DoesNotExist"), "values": WORDS},
            ("key", "operator"),
        )),
    })
)  # fmt: skip
_TLS = part({"minProtocolVersion": enum("TLS_AUTO", "TLSV1_2", "TLSV1_3"), "ecdhCurves": WORDS, "cipherSuites": WORDS})
_CONFIG: dict[str, Shape] = {
    "trustDomain": text(), "trustDomainAliases": WORDS, "rootNamespace": text(), "connectTimeout": duration(0.001),
    "protocolDetectionTimeout": duration(0), "dnsRefreshRate": duration(0.001), "proxyListenPort": PORT,
    "proxyInboundListenPort": PORT, "proxyHttpPort": PORT, "tcpKeepalive": TCP_KEEPALIVE,
    "enableAutoMtls": FLAG, "enableTracing": FLAG, "enablePrometheusMerge": FLAG, "enableEnvoyAccessLogService": FLAG,
    "disableEnvoyListenerLog": FLAG, "verifyCertificateAtClient": FLAG,
    "accessLogFile": text(), "accessLogFormat": text(), "accessLogEncoding": enum("TEXT", "JSON"),
    "outboundTrafficPolicy": part({"mode": enum("REGISTRY_ONLY", "ALLOW_ANY", "ALLOW_ANY_DYNAMIC_DNS")}),
    "inboundTrafficPolicy": part({"mode": enum("PASSTHROUGH", "LOCALHOST")}),
    "defaultServiceExportTo": WORDS, "defaultVirtualServiceExportTo": WORDS, "defaultDestinationRuleExportTo": WORDS,
    "localityLbSetting": LOCALITY, "zoneAwareLbSetting": ZONE_AWARE, "discoverySelectors": _SELECTORS,
    "serviceSettings": many(record({"settings": record({"clusterLocal": FLAG}), "hosts": WORDS})),
    "caCertificates": many(record(
        {"pem": text(), "spiffeBundleUrl": text(), "certSigners": WORDS, "trustDomains": WORDS},
        one_of=(("pem", "spiffeBundleUrl"),),
    )),
    "meshMTLS": _TLS, "tlsDefaults": _TLS, "defaultHttpRetryPolicy": HTTP_RETRIES,
    "defaultInboundHttpRetryPolicy": HTTP_RETRIES,
    "pathNormalization": part({"normalization": enum(
        "DEFAULT", "NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"
    )}),
    "h2UpgradePolicy": enum("DO_NOT_UPGRADE", "UPGRADE"), "extensionProviders": many(part({"name": text(low=1)})),
    "defaultProviders": record({"tracing": WORDS, "metrics": WORDS, "accessLogging": WORDS}),
    "defaultConfig": part({
        "discoveryAddress": text(), "drainDuration": duration(0), "parentShutdownDuration": duration(0),
        "terminationDrainDuration": duration(0), "proxyAdminPort": PORT, "statusPort": PORT,
        "concurrency": whole(0), "statNameLength": whole(0), "proxyMetadata": mapping(text()),
        "tracing": part({"sampling": number(0, 100), "maxPathTagLength": whole(0)}),
        "holdApplicationUntilProxyStarts": FLAG,
    }),
    "ca": ANY, "certificates": ANY, "configSources": ANY, "defaultTrafficPolicy": ANY, "hboneIdleTimeout": ANY,
    "inboundClusterStatName": text(), "outboundClusterStatName": text(), "ingressClass": text(),
    "ingressControllerMode": ANY, "ingressSelector": text(), "ingressService": text(), "serviceEntryVisibility": ANY,
    "serviceScopeConfigs": ANY, "thriftConfig": ANY, "mixerCheckServer": ANY, "mixerReportServer": ANY,
}  # fmt: skip
NETWORKS = record({
    "networks": mapping(record({
        "endpoints": many(record({"fromCidr": text(), "fromRegistry": text()}, one_of=(("fromCidr", "fromRegistry"),))),
        "gateways": many(record(
            {"address": text(), "registryServiceName": text(), "port": PORT, "locality": text()},
            ("port",), (("address", "registryServiceName"),),
        )),
    })),
})  # fmt: skip
_LISTS = ("defaultServiceExportTo", "defaultVirtualServiceExportTo", "defaultDestinationRuleExportTo")


def problems_of_mesh_config(config: Any) -> Iterator[Problem]:
    if not isinstance(config, dict):
        yield Problem(codes.WRONG_TYPE, "$", "a MeshConfig must be an object")
        return
    known = {name: value for name, value in config.items() if name in _CONFIG}
    problems = list(problems_of_shape(record(_CONFIG), known, "$"))
    yield from problems
    for name in config.keys() - known.keys():
        yield Problem(codes.HAS_NO_EFFECT, name, "is no key of MeshConfig's", "correct its spelling")
    if not problems:
        yield from _meaning(known)


def _meaning(config: Object) -> Iterator[Problem]:
    yield from _trust_domain(config.get("trustDomain") or "cluster.local", "trustDomain")
    for index, domain in enumerate(config.get("trustDomainAliases") or []):
        yield from _trust_domain(domain, f"trustDomainAliases[{index}]")
    for name in _LISTS:
        yield from export_to(config.get(name) or [], name, none_allowed=True)
    for name in ("localityLbSetting", "zoneAwareLbSetting"):
        yield from locality_setting(config.get(name) or {}, name, zone_aware=name.startswith("zone"))
    for index, setting in enumerate(config.get("serviceSettings") or []):
        for place, host in enumerate(setting.get("hosts") or []):
            if bad_host(host):
                yield Problem(codes.NOT_A_HOST, f"serviceSettings[{index}].hosts[{place}]", bad_host(host))
    for index, authority in enumerate(config.get("caCertificates") or []):
        yield from _authority(authority, f"caCertificates[{index}]")
    seen: set[str] = set()
    for index, provider in enumerate(config.get("extensionProviders") or []):
        name = provider.get("name") or ""
        if not name:
            yield Problem(codes.MISSING, f"extensionProviders[{index}].name", "is required")
        elif name in seen:
            yield Problem(codes.TWICE, f"extensionProviders[{index}].name", f"provider {name} is given twice")
        seen.add(name)
    for wrong in (*providers_of(config)[1], *telemetry_defaults_of(config)[1]):
        where, _, why = wrong.partition(": ")
        yield Problem(codes.LEFT_OUT, where, why)
    for name in not_read(config):
        yield Problem(codes.NOT_READ, name, "is not read by this version")
    for word in default_config_of(config)[1]:
        code = codes.MALFORMED if word.is_wrong else codes.NOT_READ
        yield Problem(code, f"defaultConfig.{word.field}", word.why)
    for name in ("proxyListenPort", "proxyInboundListenPort"):
        if config.get(name) == 0:
            yield Problem(codes.BAD_PORT, name, "a port is between 1 and 65535")


def _trust_domain(domain: str, path: str) -> Iterator[Problem]:
    if not domain or not all(dns_label(label) for label in domain.split(".")):
        yield Problem(codes.BAD_TRUST_DOMAIN, path, f"{domain!r} is not a trust domain")


def _authority(authority: Object, path: str) -> Iterator[Problem]:
    pem, url = authority.get("pem"), authority.get("spiffeBundleUrl")
    if pem is None and url is None:
        yield Problem(codes.MISSING, path, "needs pem or spiffeBundleUrl")
    if pem is not None and "-----BEGIN CERTIFICATE-----" not in pem:
        yield Problem(codes.BAD_KEYS, f"{path}.pem", "has no certificate")
    if url is not None and bad_url(url, ("https",)):
        yield Problem(codes.BAD_URL, f"{path}.spiffeBundleUrl", bad_url(url, ("https",)))
    for index, domain in enumerate(authority.get("trustDomains") or []):
        yield from _trust_domain(domain, f"{path}.trustDomains[{index}]")


def problems_of_mesh_networks(given: Any) -> Iterator[Problem]:
    problems = list(problems_of_shape(NETWORKS, given, "$"))
    yield from problems
    if problems:
        return
    for name, network in ((given or {}).get("networks") or {}).items():
        yield from _network(network or {}, entry("networks", name))


def _network(network: Object, path: str) -> Iterator[Problem]:
    for kind in ("endpoints", "gateways"):
        if not network.get(kind):
            yield Problem(codes.BAD_NETWORK, f"{path}.{kind}", "at least one is required")
    for index, endpoint in enumerate(network.get("endpoints") or []):
        if endpoint.get("fromCidr") and not is_cidr(endpoint["fromCidr"]):
            yield Problem(
                codes.NOT_AN_ADDRESS, f"{path}.endpoints[{index}].fromCidr", f"{endpoint['fromCidr']!r} is not a CIDR"
            )
        elif not endpoint.get("fromCidr") and not endpoint.get("fromRegistry"):
            yield Problem(codes.MISSING, f"{path}.endpoints[{index}]", "needs fromCidr or fromRegistry")
    for index, gateway in enumerate(network.get("gateways") or []):
        where = f"{path}.gateways[{index}]"
        address, service = gateway.get("address") or "", gateway.get("registryServiceName") or ""
        if not address and not service:
            yield Problem(codes.MISSING, where, "needs address or registryServiceName")
        if (address and not is_ip(address) and bad_host(address)) or (service and bad_host(service)):
            yield Problem(codes.NOT_AN_ADDRESS, where, f"{address or service!r} is not an address or host")
        if not gateway["port"]:
            yield Problem(codes.BAD_PORT, f"{where}.port", "must not be 0")
