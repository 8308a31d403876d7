"""Istio's metrics from plain Envoy: an access logger that counts, with labels from what access logs can say.

Of the other end a client's proxy knows the endpoint's metadata, a server's proxy the identity that was proven. What one value tells several
labels at once (the endpoint's workload) is written once for each request, under a name of its own, and taken apart when somebody asks for
the metrics (`served_names`): an expression for each label would cost every request.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.data.accesslog.v3 import accesslog_pb2 as accesslog_data_pb2
from envoy.extensions.access_loggers.stats.v3 import stats_pb2

from isthmus.envoy.common import packed, uint64
from isthmus.envoy.served_names import PEER, PEER_LABELS, UNKNOWN
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
    "cluster": f"{_NODE}['CLUSTER_ID']",
}


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
        labels = _changed(dict(_labels(server=server, http=http)), each)
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


def _labels(*, server: bool, http: bool) -> Iterator[tuple[str, str]]:
    """Each with its format. An empty one is shown as `unknown`."""
    yield "reporter", "destination" if server else "source"
    mine, other = ("destination", "source") if server else ("source", "destination")
    yield from ((f"{mine}_{name}", _cel(path)) for name, path in _OWN.items())
    yield f"{mine}_principal", "%DOWNSTREAM_LOCAL_URI_SAN%" if server else "%UPSTREAM_LOCAL_URI_SAN%"
    if server:
        yield from ((f"{other}_{name}", UNKNOWN) for name in _OWN)
        yield f"{other}_principal", "%DOWNSTREAM_PEER_URI_SAN%"
    else:
        yield PEER, "%UPSTREAM_METADATA(istio:workload)%"
        yield f"{other}_principal", "%UPSTREAM_PEER_URI_SAN%"
    yield "destination_service", _cel(f"{_SERVICE}['host']")
    yield "destination_service_name", _cel(f"{_SERVICE}['name']")
    yield "destination_service_namespace", _cel(f"{_SERVICE}['namespace']")
    yield "request_protocol", _cel(f"{_IS_GRPC} ? 'grpc' : 'http'") if http else "tcp"
    if http:
        yield "response_code", "%RESPONSE_CODE%"
        yield "grpc_response_status", "%GRPC_STATUS_NUMBER%"
    yield "response_flags", "%RESPONSE_FLAGS%"
    yield "connection_security_policy", _cel("connection.mtls ? 'mutual_tls' : 'none'") if server else UNKNOWN


def _changed(labels: dict[str, str], reported: ReportedMetric) -> dict[str, str]:
    """Where a rule is about a part of what is written at once, that is written apart."""
    if PEER in labels and any(change.name in PEER_LABELS for change in reported.changes):
        del labels[PEER]
        for place, name in enumerate(PEER_LABELS):
            pattern = "^" + "[^;]*;" * place + "([^;]*).*"
            labels[name] = _cel(f"re.extract({_WORKLOAD}, '{pattern}', '\\\\1')")
    for change in reported.changes:
        if change.expression:
            labels[change.name] = _cel(change.expression)
        else:
            labels.pop(change.name, None)
    return labels


def _cel(expression: str) -> str:
    return f"%CEL({expression})%"
