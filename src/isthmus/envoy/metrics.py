"""Istio's metrics from plain Envoy: an access logger that counts, with labels from what access logs can say.

Of the other end a client's proxy knows the endpoint's metadata, a server's proxy the identity that was proven. Written for each request is
only what differs from one to the next, and what several labels have in common once; the rest is said when somebody asks for the metrics
(`served_names`). Every label here is a formatter in each listener, and an expression (CEL) is a dear one: there is none unless a rule is
about a label that would be said later. Then all labels of that metric are written out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.data.accesslog.v3 import accesslog_pb2 as accesslog_data_pb2
from envoy.extensions.access_loggers.stats.v3 import stats_pb2

from isthmus.envoy.common import packed, uint64
from isthmus.envoy.served_names import ENDS, PEER, PEER_PARTS, SERVICE, SERVICE_PARTS, SHORT, UNKNOWN
from isthmus.model.telemetry import Metric, ReportedMetric

Config = stats_pb2.Config
_CONNECTED = accesslog_data_pb2.AccessLogType.TcpUpstreamConnected

_HISTOGRAMS = {
    Metric.REQUEST_DURATION: ("%DURATION%", Config.Histogram.Milliseconds),
    Metric.REQUEST_SIZE: ("%BYTES_RECEIVED%", Config.Histogram.Bytes),
    Metric.RESPONSE_SIZE: ("%BYTES_SENT%", Config.Histogram.Bytes),
}
_SUMS = {Metric.TCP_SENT_BYTES: "%BYTES_SENT%", Metric.TCP_RECEIVED_BYTES: "%BYTES_RECEIVED%"}

_NODE = "xds.node.metadata"
_SERVICE = "xds.cluster_metadata.filter_metadata['istio']['services'][0]"
_WORKLOAD = "xds.upstream_host_metadata.filter_metadata['istio']['workload']"
_IS_GRPC = "'content-type' in request.headers && request.headers['content-type'].startsWith('application/grpc')"
_OWN = {
    "workload": f"{_NODE}['WORKLOAD_NAME']",
    "workload_namespace": f"{_NODE}['NAMESPACE']",
    "app": f"{_NODE}['LABELS']['app']",
    "version": f"{_NODE}['LABELS']['version']",
    "canonical_service": f"{_NODE}['LABELS']['service.istio.io/canonical-name']",
    "canonical_revision": f"{_NODE}['LABELS']['service.istio.io/canonical-revision']",
    "cluster": f"{_NODE}['CLUSTER_ID']",
}
_SAID_LATER = frozenset(
    (
        "reporter",
        "request_protocol",
        "connection_security_policy",
        *SERVICE_PARTS,
        *(f"{end}_{name}" for end in ("source", "destination") for name in ENDS),
        # What some of these are concluded from.
        "source_principal",
        "grpc_response_status",
    )
)
"""Labels that rules cannot change unless they are written."""


def loggers(metrics: Sequence[ReportedMetric], *, server: bool, http: bool) -> Iterator[accesslog_pb2.AccessLog]:
    """For requests, or for connections. What counts connections that open is asked then, everything else at the end."""
    wanted = [each for each in metrics if each.metric.is_of_connections is not http]
    opened = [each for each in wanted if each.metric is Metric.TCP_OPENED_CONNECTIONS]
    rest = [each for each in wanted if each not in opened]
    if rest:
        yield at_end(_logger(rest, server=server, http=http)) if opened else _logger(rest, server=server, http=http)
    if opened:
        found = _logger(opened, server=server, http=http)
        found.filter.log_type_filter.types.append(_CONNECTED)
        yield found


def counts_opened(metrics: Sequence[ReportedMetric]) -> bool:
    """Whether loggers of connections are asked when one opens, too."""
    return any(each.metric is Metric.TCP_OPENED_CONNECTIONS for each in metrics)


def at_end(log: accesslog_pb2.AccessLog) -> accesslog_pb2.AccessLog:
    """The log, of connections that have ended alone."""
    ended = accesslog_pb2.AccessLogFilter()
    ended.log_type_filter.types.append(_CONNECTED)
    ended.log_type_filter.exclude = True
    if log.HasField("filter"):
        both = accesslog_pb2.AndFilter(filters=[log.filter, ended])
        log.filter.CopyFrom(accesslog_pb2.AccessLogFilter(and_filter=both))
    else:
        log.filter.CopyFrom(ended)
    return log


def _logger(metrics: Sequence[ReportedMetric], *, server: bool, http: bool) -> accesslog_pb2.AccessLog:
    config = Config(stat_prefix="istio")
    for each in metrics:
        labels = _labels(each, server=server, http=http)
        tags = [Config.Tag(name=name, value_format=value) for name, value in labels.items()]
        stat = Config.Stat(name=each.metric.value, tags=tags)
        if each.metric in _HISTOGRAMS:
            value, unit = _HISTOGRAMS[each.metric]
            config.histograms.add(stat=stat, value_format=value, unit=unit)
        elif each.metric in _SUMS:
            config.counters.add(stat=stat, value_format=_SUMS[each.metric])
        else:
            config.counters.add(stat=stat, value_fixed=uint64(1))
    return accesslog_pb2.AccessLog(name="envoy.access_loggers.stats", typed_config=packed(config))


def _labels(reported: ReportedMetric, *, server: bool, http: bool) -> dict[str, str]:
    """Each with its format. An empty one is shown as `unknown`."""
    is_short = not any(change.name in _SAID_LATER for change in reported.changes)
    labels = dict(_short(server=server) if is_short else _written_out(server=server, http=http))
    labels |= _always(server=server, http=http)
    for change in reported.changes:
        if change.expression:
            labels[change.name] = _cel(change.expression)
        else:
            labels.pop(change.name, None)
    return labels


def _always(*, server: bool, http: bool) -> Iterator[tuple[str, str]]:
    yield "source_principal", "%DOWNSTREAM_PEER_URI_SAN%" if server else "%UPSTREAM_LOCAL_URI_SAN%"
    yield "destination_principal", "%DOWNSTREAM_LOCAL_URI_SAN%" if server else "%UPSTREAM_PEER_URI_SAN%"
    if http:
        yield "response_code", "%RESPONSE_CODE%"
        yield "grpc_response_status", "%GRPC_STATUS_NUMBER%"
    yield "response_flags", "%RESPONSE_FLAGS%"


def _short(*, server: bool) -> Iterator[tuple[str, str]]:
    yield SHORT, "destination" if server else "source"
    yield SERVICE, "%METADATA(CLUSTER:istio:service)%"
    if not server:
        yield PEER, "%UPSTREAM_METADATA(istio:workload)%"


def _written_out(*, server: bool, http: bool) -> Iterator[tuple[str, str]]:
    yield "reporter", "destination" if server else "source"
    mine = "destination" if server else "source"
    yield from ((f"{mine}_{name}", _cel(path)) for name, path in _OWN.items())
    for name in ENDS:
        if server:
            yield f"source_{name}", UNKNOWN
        else:
            pattern = "^" + "[^;]*;" * (PEER_PARTS[name] - 1) + "([^;]*).*"
            yield f"destination_{name}", _cel(f"re.extract({_WORKLOAD}, '{pattern}', '\\\\1')")
    yield "destination_service", _cel(f"{_SERVICE}['host']")
    yield "destination_service_name", _cel(f"{_SERVICE}['name']")
    yield "destination_service_namespace", _cel(f"{_SERVICE}['namespace']")
    yield "request_protocol", _cel(f"{_IS_GRPC} ? 'grpc' : 'http'") if http else "tcp"
    yield "connection_security_policy", _cel("connection.mtls ? 'mutual_tls' : 'none'") if server else UNKNOWN


def _cel(expression: str) -> str:
    return f"%CEL({expression})%"
