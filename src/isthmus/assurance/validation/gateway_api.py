"""The shapes of the Gateway API and of the Multi-Cluster Services API, and what they mean beyond them.

Fields: the CRDs of gateway-api 1.4 (standard and experimental) and of mcs-api. An API server prunes what it does not know; here it is an error.
"""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.assurance.catalogue import validation as codes
from isthmus.assurance.validation.problems import Problem
from isthmus.assurance.validation.shapes import (
    ANY,
    LABELS,
    WORDS,
    Shape,
    duration,
    enum,
    many,
    mapping,
    part,
    record,
    text,
    whole,
)
from isthmus.assurance.validation.terms import Object, bad_host, regex

_NAME = text(low=1, high=253)
_PORT = whole(1, 65535)
_PARENT = record(
    {"group": text(), "kind": text(), "namespace": text(), "name": _NAME, "sectionName": text(), "port": _PORT},
    ("name",),
)
_OBJECT = {"group": text(), "kind": text(), "namespace": text(), "name": _NAME, "port": _PORT}
_BACKEND: dict[str, Shape] = {**_OBJECT, "weight": whole(0, 1_000_000), "filters": many(ANY)}
_REF = record(_OBJECT, ("name",))
_HEADERS = many(record({"name": text(low=1), "value": text()}, ("name", "value")))
_CHANGES = record({"set": _HEADERS, "add": _HEADERS, "remove": WORDS})
_PATH = record(
    {"type": enum("ReplaceFullPath", "ReplacePrefixMatch"), "replaceFullPath": text(), "replacePrefixMatch": text()},
    ("type",),
)
_FILTERS = many(record({
    "type": text(low=1), "requestHeaderModifier": _CHANGES, "responseHeaderModifier": _CHANGES,
    "requestMirror": record({
        "backendRef": _REF, "percent": whole(0, 100), "fraction": record({"numerator": whole(0), "denominator": whole(1)})
    }, ("backendRef",)),
    "requestRedirect": record({
        "scheme": enum("http", "https"), "hostname": text(), "path": _PATH, "port": _PORT,
        "statusCode": whole(300, 399),
    }),
    "urlRewrite": record({"hostname": text(), "path": _PATH}), "extensionRef": ANY, "cors": ANY, "externalAuth": ANY,
}, ("type",)))  # fmt: skip
_TEST = {"type": text(), "name": text(low=1), "value": text()}
_TIMES = record({"request": duration(0), "backendRequest": duration(0)})
_RETRY = record({"codes": many(whole(400, 599)), "attempts": whole(), "backoff": duration(0)})
_SESSION = part({"sessionName": text(), "type": enum("Cookie", "Header")})
_ROUTE: dict[str, Shape] = {"parentRefs": many(_PARENT, high=32), "hostnames": many(text(low=1, high=253), high=16),
                            "useDefaultGateways": text()}  # fmt: skip
_BACKENDS = many(record(_BACKEND, ("name",)), high=16)
HTTP_ROUTE = record({
    **_ROUTE,
    "rules": many(record({
        "name": text(), "filters": _FILTERS, "backendRefs": _BACKENDS, "timeouts": _TIMES, "retry": _RETRY,
        "sessionPersistence": _SESSION,
        "matches": many(record({
            "path": record({"type": enum("Exact", "PathPrefix", "RegularExpression"), "value": text(high=1024)}),
            "headers": many(record(_TEST, ("name", "value")), high=16),
            "queryParams": many(record(_TEST, ("name", "value")), high=16),
            "method": enum("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"),
        }), high=64),
    }), high=16),
})  # fmt: skip
GRPC_ROUTE = record({
    **_ROUTE,
    "rules": many(record({
        "name": text(), "filters": _FILTERS, "backendRefs": _BACKENDS, "sessionPersistence": _SESSION,
        "matches": many(record({
            "method": record({"type": enum("Exact", "RegularExpression"), "service": text(), "method": text()}),
            "headers": many(record(_TEST, ("name", "value")), high=16),
        }), high=64),
    }), high=16),
})  # fmt: skip
L4_ROUTE = record(
    {**_ROUTE, "rules": many(record({"name": text(), "backendRefs": _BACKENDS}), low=1, high=16)}, ("rules",)
)
_FROM = record({"from": enum("All", "Selector", "Same", "None"), "selector": ANY})
_ALLOWED = record({
    "namespaces": _FROM,
    "kinds": many(record({"group": text(), "kind": text(low=1)}, ("kind",))),
})  # fmt: skip
_LISTENER: dict[str, Shape] = {
    "name": _NAME,
    "hostname": text(low=1, high=253),
    "port": _PORT,
    "protocol": text(low=1),
    "allowedRoutes": _ALLOWED,
}
_LISTENER_TLS: dict[str, Shape] = {
    "mode": enum("Terminate", "Passthrough"),
    "certificateRefs": many(_REF, high=64),
    "options": LABELS,
}
_LISTENER_NEEDS = ("name", "port", "protocol")
GATEWAY = record({
    "gatewayClassName": _NAME, "infrastructure": part({"labels": LABELS, "annotations": LABELS}),
    "addresses": many(record({"type": text(), "value": text()}), high=16), "tls": ANY,
    "allowedListeners": record({"namespaces": _FROM}),
    "defaultScope": text(), "backendTLS": ANY,
    "listeners": many(
        record({**_LISTENER, "tls": record({**_LISTENER_TLS, "frontendValidation": ANY})}, _LISTENER_NEEDS), low=1, high=64
    ),
}, ("gatewayClassName", "listeners"))  # fmt: skip
LISTENER_SET = record({
    "parentRef": record({"group": text(), "kind": text(), "namespace": text(), "name": _NAME}, ("name",)),
    "listeners": many(record({**_LISTENER, "tls": record(_LISTENER_TLS)}, _LISTENER_NEEDS), low=1, high=64),
}, ("parentRef", "listeners"))  # fmt: skip
GATEWAY_CLASS = record(
    {"controllerName": text(low=1), "parametersRef": ANY, "description": text()}, ("controllerName",)
)
_GRANTED = {"group": text(), "kind": text(low=1)}
REFERENCE_GRANT = record({
    "from": many(record({**_GRANTED, "namespace": text(low=1)}, ("kind", "namespace")), low=1),
    "to": many(record({**_GRANTED, "name": text()}, ("kind",)), low=1),
}, ("from", "to"))  # fmt: skip
BACKEND_TLS_POLICY = record({
    "targetRefs": many(record({
        "group": text(), "kind": text(low=1), "name": text(low=1), "sectionName": text(),
    }, ("kind", "name")), low=1, high=16),
    "validation": record({
        "hostname": text(low=1), "wellKnownCACertificates": text(),
        "caCertificateRefs": many(record({"group": text(), "kind": text(low=1), "name": text(low=1)}, ("kind", "name")), high=8),
        "subjectAltNames": many(record({
            "type": enum("Hostname", "URI"), "hostname": text(), "uri": text(),
        }, ("type",)), high=5),
    }, ("hostname",)),
    "options": LABELS,
}, ("targetRefs", "validation"))  # fmt: skip
SERVICE_EXPORT = record({"exportedLabels": LABELS, "exportedAnnotations": LABELS})
SERVICE_IMPORT = record({
    "ports": many(record({
        "name": text(), "port": _PORT, "protocol": enum("TCP", "UDP", "SCTP"), "appProtocol": text()
    }, ("port",))),
    "ips": WORDS, "type": enum("ClusterSetIP", "Headless"), "sessionAffinity": enum("ClientIP", "None"),
    "sessionAffinityConfig": ANY, "ipFamilies": WORDS, "internalTrafficPolicy": enum("Cluster", "Local"),
    "trafficDistribution": text(),
}, ("type",))  # fmt: skip
EMPTY = mapping(ANY)

_NEEDED = {
    "RequestHeaderModifier": "requestHeaderModifier", "ResponseHeaderModifier": "responseHeaderModifier",
    "RequestMirror": "requestMirror", "RequestRedirect": "requestRedirect", "URLRewrite": "urlRewrite",
    "ExtensionRef": "extensionRef", "CORS": "cors", "ExternalAuth": "externalAuth",
}  # fmt: skip
_ONLY_HTTP = ("RequestRedirect", "URLRewrite")
_WITHOUT_HOSTNAME = ("TCP", "UDP")


def listeners(item: Object) -> Iterator[Problem]:
    """Of a Gateway, or of a ListenerSet."""
    seen: dict[str, int] = {}
    places: dict[tuple[object, ...], int] = {}
    for index, listener in enumerate(item["spec"]["listeners"]):
        path, name = f"spec.listeners[{index}]", listener["name"]
        if name in seen:
            yield Problem(codes.TWICE, f"{path}.name", f"listener {name} is given twice")
        place = (listener["port"], listener["protocol"], listener.get("hostname", ""))
        if place in places:
            yield Problem(codes.TWICE, path, f"has the port, protocol and hostname of listeners[{places[place]}]")
        seen[name] = places[place] = index
        hostname, tls = listener.get("hostname"), listener.get("tls")
        if hostname and bad_host(hostname):
            yield Problem(codes.NOT_A_HOST, f"{path}.hostname", bad_host(hostname))
        if hostname and listener["protocol"] in _WITHOUT_HOSTNAME:
            yield Problem(codes.CONTRADICTION, f"{path}.hostname", f"{listener['protocol']} knows no host names")
        if tls is not None and listener["protocol"] in ("HTTP", *_WITHOUT_HOSTNAME):
            yield Problem(codes.CONTRADICTION, f"{path}.tls", f"{listener['protocol']} has no TLS", "use HTTPS or TLS")
        if listener["protocol"] in ("HTTPS", "TLS") and tls is None:
            yield Problem(codes.NEEDS, f"{path}.tls", f"is required for {listener['protocol']}")
        terminates = tls is not None and tls.get("mode", "Terminate") == "Terminate"
        if terminates and not tls.get("certificateRefs") and not tls.get("options"):
            yield Problem(codes.BAD_CREDENTIALS, f"{path}.tls.certificateRefs", "mode Terminate needs a certificate")


def backend_tls_policy(item: Object) -> Iterator[Problem]:
    said, path = item["spec"]["validation"], "spec.validation"
    if bad_host(said["hostname"]) or "*" in said["hostname"]:
        yield Problem(codes.NOT_A_HOST, f"{path}.hostname", bad_host(said["hostname"]) or "a wildcard is not one name")
    refs, well_known = said.get("caCertificateRefs"), said.get("wellKnownCACertificates")
    if refs and well_known:
        yield Problem(codes.CONTRADICTION, path, "caCertificateRefs and wellKnownCACertificates exclude each other")
    elif not refs and not well_known:
        yield Problem(codes.MISSING, path, "one of caCertificateRefs and wellKnownCACertificates is required")
    for index, name in enumerate(said.get("subjectAltNames") or []):
        field = "uri" if name["type"] == "URI" else "hostname"
        if not name.get(field):
            yield Problem(
                codes.MISSING, f"{path}.subjectAltNames[{index}].{field}", f"is required for type {name['type']}"
            )
    seen: set[tuple[object, ...]] = set()
    for index, target in enumerate(item["spec"]["targetRefs"]):
        key = (target.get("group", ""), target["kind"], target["name"], target.get("sectionName", ""))
        if key in seen:
            yield Problem(codes.TWICE, f"spec.targetRefs[{index}]", f"{target['kind']} {target['name']} is given twice")
        seen.add(key)


def route(item: Object) -> Iterator[Problem]:
    spec = item.get("spec") or {}
    for index, name in enumerate(spec.get("hostnames") or []):
        if bad_host(name) or name == "*":
            yield Problem(codes.NOT_A_HOST, f"spec.hostnames[{index}]", bad_host(name) or "* is not a host name")
    for number, rule in enumerate(spec.get("rules") or []):
        path = f"spec.rules[{number}]"
        yield from _filters(rule, path)
        for index, match in enumerate(rule.get("matches") or []):
            yield from _match(match, f"{path}.matches[{index}]", item["kind"])
        for index, backend in enumerate(rule.get("backendRefs") or []):
            if backend.get("kind", "Service") == "Service" and not backend.get("group") and not backend.get("port"):
                yield Problem(codes.MISSING, f"{path}.backendRefs[{index}].port", "is required for a Service")


def _filters(rule: Object, path: str) -> Iterator[Problem]:
    kinds: list[str] = []
    for index, each in enumerate(rule.get("filters") or []):
        where, kind = f"{path}.filters[{index}]", each["type"]
        needed = _NEEDED.get(kind)
        if needed is None:
            yield Problem(codes.UNKNOWN_VALUE, f"{where}.type", f"{kind!r} is not one of {', '.join(_NEEDED)}")
        elif each.get(needed) is None:
            yield Problem(codes.MISSING, f"{where}.{needed}", f"is required for a filter of type {kind}")
        if kind in kinds and kind not in ("RequestMirror", "ExtensionRef"):
            yield Problem(codes.TWICE, f"{where}.type", f"{kind} is given twice")
        kinds.append(kind)
    if all(kind in kinds for kind in _ONLY_HTTP):
        yield Problem(codes.CONTRADICTION, f"{path}.filters", "RequestRedirect and URLRewrite exclude each other")
    if "RequestRedirect" in kinds and rule.get("backendRefs"):
        yield Problem(codes.CONTRADICTION, f"{path}.backendRefs", "a redirect sends nothing to a backend")


def _match(match: Object, path: str, kind: str) -> Iterator[Problem]:
    where = match.get("path") or {}
    value = where.get("value")
    if where.get("type") == "RegularExpression" and value is not None:
        yield from regex(value, f"{path}.path.value")
    elif value is not None and not value.startswith("/"):
        yield Problem(codes.MALFORMED, f"{path}.path.value", f"{value!r} does not begin with /")
    method = match.get("method") if kind == "GRPCRoute" else None
    if method is not None and not method.get("service") and not method.get("method"):
        yield Problem(codes.SAYS_NOTHING, f"{path}.method", "needs service or method")
    for group in ("headers", "queryParams"):
        for index, test in enumerate(match.get(group) or []):
            if test.get("type") == "RegularExpression":
                yield from regex(test["value"], f"{path}.{group}[{index}].value")
