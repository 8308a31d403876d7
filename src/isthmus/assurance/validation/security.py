"""The shapes of security.istio.io, telemetry.istio.io and extensions.istio.io."""

from __future__ import annotations

from isthmus.assurance.validation.networking import SELECTOR, TARGETS
from isthmus.assurance.validation.shapes import (
    ANY,
    FLAG,
    Shape,
    duration,
    enum,
    many,
    mapping,
    number,
    record,
    text,
    whole,
)

_FILLED = text(low=1)
_TARGETED: dict[str, Shape] = {"selector": SELECTOR, **TARGETS}
_ONE_TARGET = (("selector", "targetRef", "targetRefs"),)
_MTLS = record({"mode": enum("UNSET", "DISABLE", "PERMISSIVE", "STRICT")})
PEER_AUTHENTICATION = record({"selector": SELECTOR, "mtls": _MTLS, "portLevelMtls": mapping(_MTLS, low=1)})
_JWT_RULE = record({
    "issuer": _FILLED, "audiences": many(_FILLED), "jwksUri": text(low=1, high=2048), "jwks_uri": text(), "jwks": text(),
    "fromHeaders": many(record({"name": _FILLED, "prefix": text()}, ("name",))), "fromParams": many(_FILLED),
    "fromCookies": many(_FILLED), "outputPayloadToHeader": text(), "forwardOriginalToken": FLAG,
    "outputClaimToHeaders": many(record(
        {"header": text("[-_A-Za-z0-9]+", low=1), "claim": _FILLED}, ("header", "claim")
    )),
    "timeout": duration(0.001), "spaceDelimitedClaims": many(_FILLED),
    "presence": enum("UNSPECIFIED", "OPTIONAL", "REQUIRED"),
}, (), (("jwksUri", "jwks_uri", "jwks"),))  # fmt: skip
REQUEST_AUTHENTICATION = record({**_TARGETED, "jwtRules": many(_JWT_RULE, high=4096)}, one_of=_ONE_TARGET)
_SOURCE = record({name: many(_FILLED) for name in (
    "principals", "notPrincipals", "requestPrincipals", "notRequestPrincipals", "namespaces", "notNamespaces",
    "ipBlocks", "notIpBlocks", "remoteIpBlocks", "notRemoteIpBlocks", "serviceAccounts", "notServiceAccounts",
    "trustDomains", "notTrustDomains",
)})  # fmt: skip
_OPERATION = record({name: many(_FILLED) for name in (
    "hosts", "notHosts", "ports", "notPorts", "methods", "notMethods", "paths", "notPaths",
)})  # fmt: skip
AUTHORIZATION_POLICY = record({
    **_TARGETED, "action": enum("ALLOW", "DENY", "AUDIT", "CUSTOM"), "provider": record({"name": text()}),
    "rules": many(record({
        "from": many(record({"source": _SOURCE}), low=1), "to": many(record({"operation": _OPERATION}), low=1),
        "when": many(record({"key": text(), "values": many(_FILLED), "notValues": many(_FILLED)}, ("key",))),
    })),
}, one_of=_ONE_TARGET)  # fmt: skip

_PROVIDERS = many(record({"name": _FILLED}, ("name",)))
_WHICH = enum("CLIENT_AND_SERVER", "CLIENT", "SERVER")
_METRIC = enum(
    "ALL_METRICS", "REQUEST_COUNT", "REQUEST_DURATION", "REQUEST_SIZE", "RESPONSE_SIZE", "TCP_OPENED_CONNECTIONS",
    "TCP_CLOSED_CONNECTIONS", "TCP_SENT_BYTES", "TCP_RECEIVED_BYTES", "GRPC_REQUEST_MESSAGES",
    "GRPC_RESPONSE_MESSAGES",
)  # fmt: skip
_TAG = record({
    "literal": record({"value": _FILLED}, ("value",)), "formatter": record({"value": _FILLED}),
    "environment": record({"name": _FILLED, "defaultValue": text()}, ("name",)),
    "header": record({"name": _FILLED, "defaultValue": text()}, ("name",)),
}, one_of=(("literal", "environment", "header", "formatter"),))  # fmt: skip
TELEMETRY = record({
    **_TARGETED,
    "tracing": many(record({
        "match": record({"mode": _WHICH}), "providers": _PROVIDERS, "randomSamplingPercentage": number(0, 100),
        "disableSpanReporting": FLAG, "customTags": mapping(_TAG), "enableIstioTags": FLAG,
        "useRequestIdForTraceSampling": FLAG, "disableContextPropagation": FLAG,
    })),
    "metrics": many(record({
        "providers": _PROVIDERS, "reportingInterval": duration(0.001),
        "overrides": many(record({
            "match": record(
                {"metric": _METRIC, "customMetric": _FILLED, "mode": _WHICH}, one_of=(("metric", "customMetric"),)
            ),
            "disabled": FLAG,
            "tagOverrides": mapping(record({"operation": enum("UPSERT", "REMOVE"), "value": text()})),
        })),
    })),
    "accessLogging": many(record({
        "match": record({"mode": _WHICH}), "providers": _PROVIDERS, "disabled": FLAG,
        "filter": record({"expression": text()}),
    })),
}, one_of=_ONE_TARGET)  # fmt: skip

_VARIABLE = record(
    {"name": text(low=1, high=256), "valueFrom": enum("INLINE", "HOST"), "value": text(high=2048)}, ("name",)
)
WASM_PLUGIN = record({
    **_TARGETED, "url": text(low=1), "sha256": text("([a-f0-9]{64})?"), "verificationKey": text(), "pluginConfig": ANY,
    "imagePullPolicy": enum("UNSPECIFIED_POLICY", "IfNotPresent", "Always"), "priority": whole(),
    "imagePullSecret": text(low=1, high=253), "pluginName": text(low=1, high=256),
    "phase": enum("UNSPECIFIED_PHASE", "AUTHN", "AUTHZ", "STATS"),
    "failStrategy": enum("FAIL_CLOSE", "FAIL_OPEN", "FAIL_RELOAD"),
    "vmConfig": record({"env": many(_VARIABLE, high=256)}),
    "match": many(record({
        "mode": enum("UNDEFINED", "CLIENT", "SERVER", "CLIENT_AND_SERVER"),
        "ports": many(record({"number": whole(1, 65535)}, ("number",))),
    })),
    "type": enum("UNSPECIFIED_PLUGIN_TYPE", "HTTP", "NETWORK"),
}, ("url",), _ONE_TARGET)  # fmt: skip
