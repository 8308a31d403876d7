"""An Envoy's first configuration: who it is, where its control planes are, and who holds its keys.

Everything else comes over ADS. The connection to the control plane is mutual TLS with the workload's own certificate, which the agent serves
over a unix socket, so the key is in no file. (Envoy 1.40 crashes when a static upstream takes its certificate from ADS; from another static
upstream it works.) Control planes are tried in order of preference: each is a priority of its own.
"""

from __future__ import annotations

import ipaddress
import json
import math
from collections.abc import Sequence
from typing import Any

from isthmus.envoy.common import SDS_UPSTREAM, SIDECAR_MARK
from isthmus.envoy.served_names import BUFFER_BYTES, lua
from isthmus.envoy.tls import CONTROL_PLANE_ROOTS, TRUST_BUNDLE, WORKLOAD_CERTIFICATE
from isthmus.model.proxy_config import NOTHING_SAID, ProxyConfig, StatisticsKept
from isthmus.model.values import dataclass

XDS_UPSTREAM = "xds-grpc"
READINESS_PORT = 15021
STATISTICS_PORT = 15090
PROOF_PATH = "/accepted"
RUNTIME = {"re2.max_program_size.error_level": 32768}
"""Envoy's own limit for a regular expression, 100, is passed by a list of twenty hosts. Istio has this one, too."""
_AGENT = "agent"
_STATISTICS = "prometheus_stats"
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_TYPE = "type.googleapis.com/"
_DRAIN_SECONDS, _FLUSH_MILLISECONDS = 2, 200


@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapSettings:
    """`node` is the xDS Node as JSON. `control_planes` are (host, port), most preferred first. Paths are absolute.

    `control_plane_name` is the name in the control plane's certificate; the roots that it is checked against come from the agent.
    The sockets are the agent's (secrets, readiness) and Envoy's own (administration; `proof_socket`, where the agent tries whether a certificate
    is accepted). `marks_sockets`: Envoy's connections carry the mark by
    which capture leaves them alone, for which it needs CAP_NET_ADMIN. `last_good_socket`, if not empty, is the agent's, with the last good
    configuration for when no control plane answers.
    """

    node: dict[str, Any]
    control_planes: tuple[tuple[str, int], ...]
    control_plane_name: str
    sds_socket: str
    admin_socket: str
    health_socket: str
    proof_socket: str
    marks_sockets: bool
    last_good_socket: str = ""
    config: ProxyConfig = NOTHING_SAID


def bootstrap(settings: BootstrapSettings) -> bytes:
    """JSON for `envoy -c`."""
    document = {
        "node": settings.node,
        "admin": {"address": {"pipe": {"path": settings.admin_socket, "mode": 0o600}}},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [_xds_service()],
            },
            "cds_config": {"ads": {}, "resource_api_version": "V3"},
            "lds_config": {"ads": {}, "resource_api_version": "V3"},
        },
        "cluster_manager": {"upstream_bind_config": _marked_bind()} if settings.marks_sockets else {},
        "static_resources": {
            "clusters": [
                _xds_upstream(settings),
                _unix_upstream(SDS_UPSTREAM, settings.sds_socket, http2=True),
                _unix_upstream(_AGENT, settings.health_socket, http2=False),
                _unix_upstream(_STATISTICS, settings.admin_socket, http2=False),
            ],
            "listeners": [
                _listener(
                    "readiness",
                    _anywhere(settings.node, READINESS_PORT),
                    {"path": "/healthz/ready"},
                    {"cluster": _AGENT},
                ),
                _listener(
                    "statistics",
                    _anywhere(settings.node, STATISTICS_PORT),
                    {"path": "/stats/prometheus"},
                    {"cluster": _STATISTICS, "prefix_rewrite": "/stats/prometheus?usedonly"},
                    [_renaming(settings.node)],
                )
                | {"per_connection_buffer_limit_bytes": BUFFER_BYTES},
                _proof(settings.proof_socket),
            ],
        },
        "stats_config": _statistics(settings.config.statistics or StatisticsKept()),
        **({"stats_sinks": [_statsd(settings.config.statsd)]} if settings.config.statsd else {}),
        "deferred_stat_options": {"enable_deferred_creation_stats": True},
        "layered_runtime": {
            "layers": [
                {
                    "name": "static",
                    "static_layer": {**RUNTIME, **dict(settings.config.runtime)},
                },
                {"name": "admin", "admin_layer": {}},
            ]
        },
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": _TYPE
                        + "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                        "max_active_downstream_connections": 50000,
                    },
                }
            ]
        },
    }
    return json.dumps(document, indent=1, sort_keys=True).encode()


def _statsd(address: str) -> dict[str, Any]:
    """Statistics are sent there by UDP every few seconds, in statsd's lines."""
    host, _, port = address.rpartition(":")
    place = _socket(host.strip("[]"), int(port))
    place["socket_address"]["protocol"] = "UDP"
    return {
        "name": "envoy.stat_sinks.statsd",
        "typed_config": {"@type": _TYPE + "envoy.config.metrics.v3.StatsdSink", "address": place},
    }


def _statistics(also: StatisticsKept) -> dict[str, Any]:
    """What people ask about. All of Envoy's statistics would cost twice the memory for each upstream (measured).

    Names of upstreams have dots in them, so each ends in a semicolon (`alt_stat_name`) up to which it is taken for a label.
    """
    kept: list[dict[str, Any]] = [{"prefix": prefix} for prefix in (*_KEPT, *also.prefixes)]
    kept += [{"suffix": suffix} for suffix in (*_KEPT_OF_EACH_UPSTREAM, *also.suffixes)]
    kept += [{"safe_regex": {"regex": each}} for each in also.expressions]
    return {
        "stats_matcher": {"inclusion_list": {"patterns": kept}},
        "use_all_default_tags": False,
        "stats_tags": [
            {"tag_name": "cluster_name", "regex": r"^cluster\.((.+?);\.)"},
            {"tag_name": "tcp_prefix", "regex": r"^tcp\.((.+?);\.)"},
            {"tag_name": "http_conn_manager_prefix", "regex": r"^http\.((.+?);\.)"},
            {"tag_name": "response_code", "regex": r"(_rq(_(\d{3})))$"},
            {"tag_name": "response_code_class", "regex": r"_rq(_(\dxx))$"},
        ],
    }


_KEPT = (
    "cluster_manager",
    "listener_manager",
    "control_plane",
    "istio.",
    "server.",
    "sds.",
    "tcp.",
    "http.inbound",
    "http.outbound",
)

_KEPT_OF_EACH_UPSTREAM = (
    ".membership_healthy",
    ".membership_total",
    ".outlier_detection.ejections_active",
    ".ssl.handshake",
    ".ssl.connection_error",
    ".ssl.fail_verify_san",
    ".upstream_cx_active",
    ".upstream_cx_connect_fail",
    ".upstream_cx_total",
    ".upstream_rq_2xx",
    ".upstream_rq_4xx",
    ".upstream_rq_5xx",
    ".upstream_rq_active",
    ".upstream_rq_retry",
    ".upstream_rq_total",
)


def envoy_arguments(
    bootstrap_path: str,
    log_path: str = "",
    *,
    concurrency: int = 1,
    log_level: str = "warning",
    config: ProxyConfig = NOTHING_SAID,
) -> list[str]:
    """Command line; as it is, for one small Envoy among many on a machine. Concurrency 0 is a thread for each core."""
    arguments = [
        "-c",
        bootstrap_path,
        *(["--concurrency", str(concurrency)] if concurrency else []),
        # Hot restart binds an abstract socket by number: a second Envoy on the machine would not start.
        "--disable-hot-restart",
        # The prefix of metrics has a newer field that the Python types do not know yet: Envoy would say so once for each listener.
        "--skip-deprecated-logs",
        "--drain-time-s",
        str(_DRAIN_SECONDS if config.drain_seconds is None else math.ceil(config.drain_seconds)),
        "--drain-strategy",
        "immediate",
        "--file-flush-interval-msec",
        str(config.flush_milliseconds or _FLUSH_MILLISECONDS),
        *(["--file-flush-min-size-kb", str(config.flush_kilobytes)] if config.flush_kilobytes is not None else []),
        "-l",
        log_level,
    ]
    return [*arguments, "--log-path", log_path] if log_path else arguments


def _xds_service() -> dict[str, Any]:
    """Envoy's own back-off grows to half a minute; a control plane that returns should be found at once (measured)."""
    back_off = {"base_interval": "0.1s", "max_interval": "1s"}
    return {"envoy_grpc": {"cluster_name": XDS_UPSTREAM, "retry_policy": {"retry_back_off": back_off}}}


def _marked_bind() -> dict[str, Any]:
    """Without a source address, so that it holds for IPv6 as for IPv4 (the option is set all the same, measured)."""
    return {
        "socket_options": [
            {"description": "SO_MARK", "level": 1, "name": 36, "int_value": SIDECAR_MARK, "state": "STATE_PREBIND"}
        ],
    }


def _xds_upstream(settings: BootstrapSettings) -> dict[str, Any]:
    localities = [
        {"priority": priority, "lb_endpoints": [{"endpoint": {"address": _socket(host, port)}}]}
        for priority, (host, port) in enumerate(settings.control_planes)
    ]
    static = all(_is_ip(host) for host, _ in settings.control_planes)
    last_resort = bool(settings.last_good_socket) and static
    if last_resort:
        localities.append(_last_resort(settings.last_good_socket, len(localities)))
    context = {
        "@type": _TYPE + "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": settings.control_plane_name,
        "common_tls_context": {
            "alpn_protocols": ["h2"],
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"},
            "tls_certificate_sds_secret_configs": [_secret(WORKLOAD_CERTIFICATE)],
            "combined_validation_context": {
                "default_validation_context": {
                    "match_typed_subject_alt_names": [
                        {"san_type": "DNS", "matcher": {"exact": settings.control_plane_name}}
                    ],
                },
                "validation_context_sds_secret_config": _secret(CONTROL_PLANE_ROOTS),
            },
        },
    }
    return {
        "name": XDS_UPSTREAM,
        "alt_stat_name": f"{XDS_UPSTREAM};",
        "type": "STATIC" if static else "STRICT_DNS",
        "dns_lookup_family": "V4_PREFERRED",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": XDS_UPSTREAM, "endpoints": localities},
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "outlier_detection": {
            "split_external_local_origin_errors": True,
            "consecutive_local_origin_failure": 2,
            "interval": "1s",
            "base_ejection_time": "1s",
            "max_ejection_time": "2s",
            # The last one is never ejected: there is nowhere else to go.
            "max_ejection_percent": 99,
        },
        "typed_extension_protocol_options": {_HTTP_OPTIONS: _http2()},
        "upstream_connection_options": {"tcp_keepalive": {"keepalive_time": 30, "keepalive_interval": 5}},
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": context},
        **({"transport_socket_matches": [_PLAIN_FOR_THE_AGENT]} if last_resort else {}),
    }


_AGENT_MATCH = {"lastGood": True}
_PLAIN_FOR_THE_AGENT = {
    "name": "last-good",
    "match": _AGENT_MATCH,
    "transport_socket": {
        "name": "envoy.transport_sockets.raw_buffer",
        "typed_config": {"@type": _TYPE + "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"},
    },
}
"""Its socket lies in a folder of this proxy's own: who may reach it is the identity."""


def _last_resort(path: str, priority: int) -> dict[str, Any]:
    """The agent, after all control planes. A name that has to be resolved and a path cannot stand in one upstream."""
    metadata = {"filter_metadata": {"envoy.transport_socket_match": _AGENT_MATCH}}
    endpoint = {"endpoint": {"address": {"pipe": {"path": path}}}, "metadata": metadata}
    return {"priority": priority, "lb_endpoints": [endpoint]}


def _secret(name: str) -> dict[str, Any]:
    return {"name": name, "sds_config": _from_agent()}


def _from_agent() -> dict[str, Any]:
    return {
        "api_config_source": {
            "api_type": "GRPC",
            "transport_api_version": "V3",
            "set_node_on_first_message_only": True,
            "grpc_services": [{"envoy_grpc": {"cluster_name": SDS_UPSTREAM}}],
        },
        "resource_api_version": "V3",
        "initial_fetch_timeout": "0s",
    }


def _unix_upstream(name: str, path: str, *, http2: bool) -> dict[str, Any]:
    upstream: dict[str, Any] = {
        "name": name,
        "alt_stat_name": f"{name};",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": path}}}}]}],
        },
    }
    if http2:
        upstream["typed_extension_protocol_options"] = {_HTTP_OPTIONS: _http2()}
    return upstream


def _http2() -> dict[str, Any]:
    """A control plane that hangs keeps its connections: it is found out by pings, and left for the next one, within a quarter of a minute."""
    return {
        "@type": _TYPE + _HTTP_OPTIONS,
        "explicit_http_config": {
            "http2_protocol_options": {"connection_keepalive": {"interval": "10s", "timeout": "5s"}}
        },
    }


def _socket(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _renaming(node: dict[str, Any]) -> dict[str, Any]:
    config = {
        "@type": _TYPE + "envoy.extensions.filters.http.lua.v3.Lua",
        "default_source_code": {"inline_string": lua(node)},
    }
    return {"name": "envoy.filters.http.lua", "typed_config": config}


def _anywhere(node: dict[str, Any], port: int) -> dict[str, Any]:
    """Where whoever looks after the Pod asks: at its first address, so at IPv6 (and IPv4) where that is one."""
    first = str(node.get("metadata", {}).get("INSTANCE_IPS", "")).partition(",")[0]
    if ":" not in first:
        return _socket("0.0.0.0", port)
    found = _socket("::", port)
    found["socket_address"]["ipv4_compat"] = True
    return found


def _listener(
    name: str,
    address: dict[str, Any],
    match: dict[str, Any],
    route: dict[str, Any],
    before: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """Anyone may ask this one question. Asking is free of the limit on connections."""
    return {
        "name": name,
        "address": address,
        "filter_chains": [{"filters": [_answering(name, {"match": match, "route": route}, before)]}],
        "ignore_global_conn_limit": True,
    }


def _answering(name: str, route: dict[str, Any], before: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """Every other question is answered with 404."""
    manager = {
        "@type": _TYPE + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": f"{name};",
        # Whoever sends a request's head slowly would hold memory here.
        "request_headers_timeout": "30s",
        "route_config": {"virtual_hosts": [{"name": name, "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            *before,
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": _TYPE + "envoy.extensions.filters.http.router.v3.Router"},
            },
        ],
    }
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}


def _proof(path: str) -> dict[str, Any]:
    """Answers who connects with a certificate that this proxy accepts from callers. Only the agent can reach it.

    (The network filter that answers at once closes a TLS connection before its handshake is over, measured with Envoy 1.40.)
    """
    context = {
        "@type": _TYPE + "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": True,
        "common_tls_context": {
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
            "tls_certificate_sds_secret_configs": [_secret(WORKLOAD_CERTIFICATE)],
            "validation_context_sds_secret_config": _secret(TRUST_BUNDLE),
        },
    }
    answer = {"match": {"path": PROOF_PATH}, "direct_response": {"status": 200}}
    return {
        "name": "proof",
        "address": {"pipe": {"path": path, "mode": 0o600}},
        "filter_chains": [
            {
                "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": context},
                "filters": [_answering("proof", answer)],
            }
        ],
        "ignore_global_conn_limit": True,
    }
