"""The shapes of networking.istio.io."""

from __future__ import annotations

from isthmus.assurance.validation.shapes import (
    ANY,
    FLAG,
    LABELS,
    PORT,
    WORDS,
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

SELECTOR = record({"matchLabels": mapping(text(high=63), high=4096)})
OLD_SELECTOR = record({"labels": mapping(text(high=63), high=256)})
_REF = record(
    {"group": text(high=253), "kind": text(low=1, high=63), "name": text(low=1, high=253), "namespace": text()},
    ("kind", "name"),
)
TARGETS: dict[str, Shape] = {"targetRef": _REF, "targetRefs": many(_REF, high=16)}
_STRING = record({"exact": text(), "prefix": text(), "regex": text()}, one_of=(("exact", "prefix", "regex"),))
_PERCENT = record({"value": number(0, 100)})
_SUBSET_PORT = record({"number": PORT})
_DESTINATION = record({"host": text(), "subset": text(), "port": _SUBSET_PORT}, ("host",))
_HEADER_CHANGES = record({"set": LABELS, "add": LABELS, "remove": WORDS})
_HEADERS = record({"request": _HEADER_CHANGES, "response": _HEADER_CHANGES})
_HTTP_MATCH = record({
    "name": text(), "uri": _STRING, "scheme": _STRING, "method": _STRING, "authority": _STRING,
    "headers": mapping(_STRING), "port": PORT, "sourceLabels": LABELS, "gateways": WORDS,
    "queryParams": mapping(_STRING), "ignoreUriCase": FLAG, "withoutHeaders": mapping(_STRING),
    "sourceNamespace": text(), "statPrefix": text(),
})  # fmt: skip
HTTP_RETRIES = record({
    "attempts": whole(), "perTryTimeout": duration(0.001), "retryOn": text(), "retryRemoteLocalities": FLAG,
    "retryIgnorePreviousHosts": FLAG, "backoff": duration(0.001),
})  # fmt: skip
_HTTP = record({
    "name": text(), "match": many(_HTTP_MATCH), "timeout": duration(0.001), "headers": _HEADERS,
    "route": many(record({"destination": _DESTINATION, "weight": whole(0), "headers": _HEADERS}, ("destination",))),
    "redirect": record({
        "uri": text(), "prefixRewrite": text(), "authority": text(), "port": PORT, "scheme": text(),
        "redirectCode": whole(0),
        "derivePort": enum("FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"),
    }, one_of=(("port", "derivePort"),)),
    "directResponse": record(
        {"status": whole(0), "body": record({"string": text(), "bytes": text()}, one_of=(("string", "bytes"),))},
        ("status",),
    ),
    "delegate": record({"name": text(), "namespace": text()}),
    "rewrite": record(
        {"uri": text(), "authority": text(), "uriRegexRewrite": record({"match": text(), "rewrite": text()})}
    ),
    "retries": HTTP_RETRIES,
    "fault": record({
        "delay": record({
            "percent": whole(0, 100), "percentage": _PERCENT, "fixedDelay": duration(0.001),
            "exponentialDelay": duration(0.001),
        }, one_of=(("fixedDelay", "exponentialDelay"),)),
        "abort": record(
            {"percentage": _PERCENT, "httpStatus": whole(200, 599), "grpcStatus": text(), "http2Error": text()},
            one_of=(("httpStatus", "grpcStatus", "http2Error"),),
        ),
    }),
    "mirror": _DESTINATION, "mirrorPercent": whole(0, 100), "mirrorPercentage": _PERCENT,
    "mirrors": many(record({"destination": _DESTINATION, "percentage": _PERCENT}, ("destination",))),
    "corsPolicy": record({
        "allowOrigin": WORDS, "allowOrigins": many(_STRING), "allowMethods": WORDS, "allowHeaders": WORDS,
        "exposeHeaders": WORDS, "maxAge": duration(0.001), "allowCredentials": FLAG,
        "unmatchedPreflights": enum("UNSPECIFIED", "FORWARD", "IGNORE"),
    }),
})  # fmt: skip
_ROUTES = many(record({"destination": _DESTINATION, "weight": whole(0)}, ("destination",)))
_L4_MATCH = {
    "destinationSubnets": WORDS, "port": PORT, "sourceLabels": LABELS, "gateways": WORDS, "sourceNamespace": text(),
}  # fmt: skip
VIRTUAL_SERVICE = record({
    "hosts": WORDS, "gateways": WORDS, "http": many(_HTTP), "exportTo": WORDS,
    "tls": many(record(
        {"match": many(record({"sniHosts": WORDS, **_L4_MATCH}, ("sniHosts",))), "route": _ROUTES}, ("match",)
    )),
    "tcp": many(record({"match": many(record({"sourceSubnet": text(), **_L4_MATCH})), "route": _ROUTES})),
})  # fmt: skip

_FAILOVER = many(record({"from": text(), "to": text()}))
LOCALITY = record({
    "distribute": many(record({"from": text(), "to": mapping(whole(0))})), "failover": _FAILOVER,
    "failoverPriority": WORDS, "enabled": FLAG,
})  # fmt: skip
ZONE_AWARE = record({
    "enabled": FLAG, "failover": _FAILOVER, "failoverPriority": WORDS, "minClusterSize": ANY,
    "routingEnabled": ANY, "failTrafficOnPanic": FLAG, "forceLocalZone": ANY,
})  # fmt: skip
_COOKIE_ATTRIBUTE = record({"name": text(), "value": text()}, ("name",))
_BALANCER = record({
    "simple": enum("UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST"),
    "consistentHash": record({
        "httpHeaderName": text(), "useSourceIp": FLAG, "httpQueryParameterName": text(),
        "minimumRingSize": whole(0),
        "httpCookie": record(
            {"name": text(), "path": text(), "ttl": duration(), "attributes": many(_COOKIE_ATTRIBUTE)}, ("name",)
        ),
        "ringHash": record({"minimumRingSize": whole(0)}), "maglev": record({"tableSize": whole(0)}),
    }, one_of=(("httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName"), ("ringHash", "maglev"))),
    "localityLbSetting": LOCALITY, "zoneAwareLbSetting": ZONE_AWARE, "warmupDurationSecs": duration(0.001),
    "warmup": record(
        {"duration": duration(0.001), "minimumPercent": number(0, 100), "aggression": number(1)}, ("duration",)
    ),
}, one_of=(("simple", "consistentHash"), ("warmup", "warmupDurationSecs")))  # fmt: skip
TCP_KEEPALIVE = record({"probes": whole(0), "time": duration(0.001), "interval": duration(0.001)})
_POOL = record({
    "tcp": record({
        "maxConnections": whole(0), "connectTimeout": duration(0.001), "maxConnectionDuration": duration(0.001),
        "idleTimeout": duration(),
        "tcpKeepalive": TCP_KEEPALIVE,
    }),
    "http": record({
        "http1MaxPendingRequests": whole(0), "http2MaxRequests": whole(0), "maxRequestsPerConnection": whole(0),
        "maxRetries": whole(0), "idleTimeout": duration(0.001), "useClientProtocol": FLAG,
        "h2UpgradePolicy": enum("DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"), "maxConcurrentStreams": whole(0),
        "http2KeepAlive": record({"interval": duration(0.001), "timeout": duration(0.001)}),
    }),
})  # fmt: skip
_OUTLIER = record({
    "consecutiveErrors": whole(0), "splitExternalLocalOriginErrors": FLAG,
    "consecutiveLocalOriginFailures": whole(0), "consecutiveGatewayErrors": whole(0),
    "consecutive5xxErrors": whole(0), "interval": duration(0.001), "baseEjectionTime": duration(0.001),
    "maxEjectionPercent": whole(0, 100), "minHealthPercent": whole(0, 100),
})  # fmt: skip
CLIENT_TLS = record({
    "mode": enum("DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"), "clientCertificate": text(),
    "privateKey": text(), "caCertificates": text(), "credentialName": text(), "subjectAltNames": WORDS,
    "sni": text(), "insecureSkipVerify": FLAG, "caCrl": text(),
})  # fmt: skip
_POLICY = {
    "loadBalancer": _BALANCER, "connectionPool": _POOL, "outlierDetection": _OUTLIER, "tls": CLIENT_TLS,
}  # fmt: skip
_TRAFFIC_POLICY = record({
    **_POLICY, "portLevelSettings": many(record({**_POLICY, "port": _SUBSET_PORT}), high=4096),
    "tunnel": record({"protocol": text(), "targetHost": text(), "targetPort": PORT}, ("targetHost", "targetPort")),
    "proxyProtocol": record({"version": enum("V1", "V2")}),
    "retryBudget": record({"percent": number(0, 100), "minRetryConcurrency": whole(0)}),
})  # fmt: skip
DESTINATION_RULE = record({
    "host": text(), "trafficPolicy": _TRAFFIC_POLICY, "exportTo": WORDS, "workloadSelector": SELECTOR,
    "subsets": many(record({"name": text(), "labels": LABELS, "trafficPolicy": _TRAFFIC_POLICY}, ("name",))),
}, ("host",))  # fmt: skip

_SERVER_TLS = record({
    "httpsRedirect": FLAG, "serverCertificate": text(), "privateKey": text(), "caCertificates": text(),
    "mode": enum(
        "PASSTHROUGH", "SIMPLE", "MUTUAL", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL"
    ),
    "credentialName": text(), "credentialNames": WORDS, "caCertCredentialName": text(),
    "subjectAltNames": WORDS, "verifyCertificateSpki": WORDS, "verifyCertificateHash": WORDS,
    "minProtocolVersion": enum("TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"),
    "maxProtocolVersion": enum("TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"),
    "cipherSuites": WORDS, "caCrl": text(),
    "tlsCertificates": many(record(
        {"serverCertificate": text(), "privateKey": text(), "caCertificates": text()}
    )),
})  # fmt: skip
_NAMED_PORT = record({"number": PORT, "protocol": text(), "name": text(), "targetPort": PORT})
GATEWAY = record({
    "selector": LABELS,
    "servers": many(record({
        "port": _NAMED_PORT, "bind": text(), "hosts": WORDS, "tls": _SERVER_TLS, "name": text(),
        "defaultEndpoint": text(),
    }, ("port", "hosts"))),
})  # fmt: skip
WORKLOAD_ENTRY = record({
    "address": text(high=256), "ports": mapping(whole(1, 65535), high=128), "labels": mapping(text(), high=256),
    "network": text(high=2048), "locality": text(high=2048), "weight": whole(0, 4294967295),
    "serviceAccount": text(high=253),
})  # fmt: skip
SERVICE_ENTRY = record({
    "hosts": many(text(), 1, 256), "addresses": many(text(high=64), high=256), "ports": many(record(
        {"number": whole(1, 65535), "protocol": text(high=256), "name": text(low=1, high=256), "targetPort": PORT},
        ("number", "name"),
    ), high=256),
    "location": enum("MESH_EXTERNAL", "MESH_INTERNAL"),
    "resolution": enum("NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"),
    "endpoints": many(WORKLOAD_ENTRY, high=4096), "workloadSelector": OLD_SELECTOR, "exportTo": WORDS,
    "subjectAltNames": WORDS,
}, ("hosts",), (("endpoints", "workloadSelector"),))  # fmt: skip
_PROBE_HEADER = record({"name": text("[-_A-Za-z0-9]+"), "value": text()})
WORKLOAD_GROUP = record({
    "metadata": record({"labels": mapping(text(), high=256), "annotations": mapping(text(), high=256)}),
    "template": WORKLOAD_ENTRY,
    "probe": record({
        "initialDelaySeconds": whole(0), "timeoutSeconds": whole(0), "periodSeconds": whole(0),
        "successThreshold": whole(0), "failureThreshold": whole(0),
        "httpGet": record({
            "path": text(), "port": whole(1, 65535), "host": text(), "scheme": enum("HTTP", "HTTPS"),
            "httpHeaders": many(_PROBE_HEADER),
        }, ("port",)),
        "tcpSocket": record({"host": text(), "port": whole(1, 65535)}, ("port",)),
        "exec": record({"command": many(text(low=1), 1)}, ("command",)),
        "grpc": record({"port": whole(0, 65535), "service": text()}),
    }, one_of=(("httpGet", "tcpSocket", "exec", "grpc"),)),
}, ("template",))  # fmt: skip
_CAPTURE = enum("DEFAULT", "IPTABLES", "NONE")
SIDECAR = record({
    "workloadSelector": OLD_SELECTOR,
    "ingress": many(record({
        "port": _NAMED_PORT, "bind": text(), "captureMode": _CAPTURE, "defaultEndpoint": text(), "tls": _SERVER_TLS,
        "connectionPool": _POOL,
    }, ("port",))),
    "egress": many(record(
        {"port": _NAMED_PORT, "bind": text(), "captureMode": _CAPTURE, "hosts": WORDS}, ("hosts",)
    )),
    "inboundConnectionPool": _POOL,
    "outboundTrafficPolicy": record({
        "mode": enum("REGISTRY_ONLY", "ALLOW_ANY"), "egressProxy": _DESTINATION
    }),
})  # fmt: skip
PROXY_CONFIG = record({
    "selector": SELECTOR, "concurrency": whole(0, 256), "environmentVariables": mapping(text(high=2048)),
    "image": record({"imageType": text()}),
})  # fmt: skip
_FILTER_MATCH = record({"name": text(), "subFilter": record({"name": text()}), "destinationPort": PORT})
_ROUTE_ACTION = enum("ANY", "ROUTE", "REDIRECT", "DIRECT_RESPONSE")
_NAMED_ROUTE = record({"name": text(), "action": _ROUTE_ACTION})
_PATCH_MATCH = record({
    "context": enum("ANY", "SIDECAR_INBOUND", "SIDECAR_OUTBOUND", "GATEWAY", "WAYPOINT"),
    "proxy": record({"proxyVersion": text(), "metadata": LABELS}),
    "listener": record({
        "portNumber": PORT, "portName": text(), "name": text(), "listenerFilter": text(),
        "filterChain": record({
            "name": text(), "sni": text(), "transportProtocol": text(), "applicationProtocols": text(),
            "destinationPort": PORT, "filter": _FILTER_MATCH,
        }),
    }),
    "routeConfiguration": record({
        "portNumber": PORT, "portName": text(), "gateway": text(), "name": text(),
        "vhost": record({"name": text(), "domainName": text(), "route": _NAMED_ROUTE}),
    }),
    "cluster": record({"portNumber": PORT, "service": text(), "subset": text(), "name": text()}),
    "waypoint": record({
        "portNumber": PORT, "filter": _FILTER_MATCH, "route": record({"name": text()}),
    }),
}, one_of=(("listener", "routeConfiguration", "cluster", "waypoint"),))  # fmt: skip
ENVOY_FILTER = record({
    "workloadSelector": OLD_SELECTOR, "priority": whole(), **TARGETS,
    "configPatches": many(record({
        "applyTo": enum(
            "INVALID", "LISTENER", "FILTER_CHAIN", "NETWORK_FILTER", "HTTP_FILTER", "ROUTE_CONFIGURATION",
            "VIRTUAL_HOST", "HTTP_ROUTE", "CLUSTER", "EXTENSION_CONFIG", "BOOTSTRAP", "LISTENER_FILTER",
        ),
        "match": _PATCH_MATCH,
        "patch": record({
            "operation": enum(
                "INVALID", "MERGE", "ADD", "REMOVE", "INSERT_BEFORE", "INSERT_AFTER", "INSERT_FIRST", "REPLACE",
                "MERGE_AND_REPLACE_LIST",
            ),
            "value": ANY, "filterClass": enum("UNSPECIFIED", "AUTHN", "AUTHZ", "STATS"),
        }),
    })),
}, (), (("workloadSelector", "targetRefs"),))  # fmt: skip
