"""Access logs, traces and metrics, put into listeners after these are made: every HTTP connection manager and every TCP proxy has them.

A listener of a proxy that reports nothing stays the very same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.config.core.v3 import (
    base_pb2,
    grpc_service_pb2,
    http_service_pb2,
    http_uri_pb2,
    substitution_format_string_pb2,
)
from envoy.config.listener.v3 import listener_pb2
from envoy.config.trace.v3 import http_tracer_pb2, opentelemetry_pb2, zipkin_pb2
from envoy.extensions.access_loggers.file.v3 import file_pb2
from envoy.extensions.access_loggers.filters.cel.v3 import cel_pb2
from envoy.extensions.access_loggers.grpc.v3 import als_pb2
from envoy.extensions.access_loggers.open_telemetry.v3 import logs_service_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from envoy.extensions.request_id.uuid.v3 import uuid_pb2
from envoy.type.tracing.v3 import custom_tag_pb2
from envoy.type.v3 import percent_pb2

from isthmus.envoy import metrics
from isthmus.envoy.common import packed, seconds, struct, uint32
from isthmus.envoy.log_formats import DEFAULT_FIELDS, DEFAULT_TEXT
from isthmus.envoy.resources import LISTENER, Resource
from isthmus.incremental.while_used import while_used
from isthmus.model.telemetry import (
    AccessLog,
    LogKind,
    LogProvider,
    Reporting,
    TagSource,
    TraceKind,
    TraceProvider,
    TraceTag,
    Tracing,
)

Typed = tuple[str, Resource]
Hcm = http_connection_manager_pb2.HttpConnectionManager

_MANAGER = "envoy.filters.network.http_connection_manager"
_TCP = "envoy.filters.network.tcp_proxy"


def reported(found: Iterable[Typed], reporting: Reporting, clusters: frozenset[str]) -> Iterator[Typed]:
    """The resources, with what is to be logged, traced and counted. `clusters` are those that the proxy has: what would be sent to a server that
    is not among them is left out, for Envoy refuses a whole listener that names a tracer's cluster and does not find it.
    """
    if is_sent_somewhere(reporting):
        reporting = _as_far_as_there_are(reporting, clusters)
    if not reporting.logs and not reporting.tracing and not reporting.metrics:
        yield from found
        return
    for type_url, resource in found:
        yield type_url, _listener(resource, reporting) if type_url == LISTENER else resource


def is_sent_somewhere(reporting: Reporting) -> bool:
    """Whether it matters which clusters the proxy has."""
    return any(log.provider.host for log in reporting.logs) or bool(reporting.tracing and reporting.tracing.provider)


def _as_far_as_there_are(reporting: Reporting, clusters: frozenset[str]) -> Reporting:
    def is_there(server: LogProvider | TraceProvider) -> bool:
        return not server.host or f"outbound|{server.port}||{server.host}" in clusters

    tracing = reporting.tracing
    if tracing and tracing.provider and not is_there(tracing.provider):
        tracing = None
    return replace(reporting, logs=tuple(log for log in reporting.logs if is_there(log.provider)), tracing=tracing)


@while_used
def _listener(resource: Resource, reporting: Reporting) -> Resource:
    listener = listener_pb2.Listener.FromString(resource.body)
    server = listener.traffic_direction == base_pb2.INBOUND
    chains = list(listener.filter_chains)
    if listener.HasField("default_filter_chain"):
        chains.append(listener.default_filter_chain)
    for chain in chains:
        for each in chain.filters:
            if each.name == _MANAGER:
                manager = Hcm.FromString(each.typed_config.value)
                manager.access_log.extend(_log(log, http=True) for log in reporting.logs if _is_for(log, http=True))
                manager.access_log.extend(metrics.loggers(reporting.metrics, server=server, http=True))
                if reporting.tracing:
                    manager.tracing.CopyFrom(_tracing(reporting.tracing))
                    manager.generate_request_id.value = True
                    if not reporting.tracing.samples_by_request_id:
                        plain = uuid_pb2.UuidRequestIdConfig()
                        plain.use_request_id_for_trace_sampling.value = False
                        manager.request_id_extension.typed_config.CopyFrom(packed(plain))
                each.typed_config.CopyFrom(packed(manager))
            elif each.name == _TCP:
                proxy = tcp_proxy_pb2.TcpProxy.FromString(each.typed_config.value)
                _report_connections(proxy, reporting, server=server)
                each.typed_config.CopyFrom(packed(proxy))
    return Resource.of(resource.name, listener)


def _report_connections(proxy: Any, reporting: Reporting, *, server: bool) -> None:
    """Counting connections that open has all loggers asked at that moment: logs of lines then say that they are not meant."""
    logs = [_log(log, http=False) for log in reporting.logs if _is_for(log, http=False)]
    if metrics.counts_opened(reporting.metrics):
        proxy.access_log_options.flush_access_log_on_connected = True
        logs = [metrics.at_end(log) for log in logs]
    proxy.access_log.extend([*logs, *metrics.loggers(reporting.metrics, server=server, http=False)])


def _is_for(log: AccessLog, *, http: bool) -> bool:
    """Envoy's own protocol has a logger for requests and another one for connections."""
    return log.provider.kind is not (LogKind.ENVOY_TCP if http else LogKind.ENVOY_HTTP)


def _log(log: AccessLog, *, http: bool) -> accesslog_pb2.AccessLog:
    provider = log.provider
    match provider.kind:
        case LogKind.FILE:
            found = _named("envoy.access_loggers.file", _file(provider))
        case LogKind.OPEN_TELEMETRY:
            found = _named("envoy.access_loggers.open_telemetry", _open_telemetry(provider))
        case LogKind.ENVOY_HTTP | LogKind.ENVOY_TCP:
            found = _named(*_envoy_grpc(provider, http=http))
    if log.expression:
        expression = cel_pb2.ExpressionFilter(expression=log.expression)
        found.filter.extension_filter.name = "envoy.access_loggers.extension_filters.cel"
        found.filter.extension_filter.typed_config.CopyFrom(packed(expression))
    return found


def _named(name: str, config: Any) -> accesslog_pb2.AccessLog:
    return accesslog_pb2.AccessLog(name=name, typed_config=packed(config))


def _file(provider: LogProvider) -> file_pb2.FileAccessLog:
    written = substitution_format_string_pb2.SubstitutionFormatString()
    if provider.as_json:
        fields = {key: json.loads(value) for key, value in provider.fields}
        written.json_format.CopyFrom(struct(fields or dict(DEFAULT_FIELDS)))
    else:
        text = provider.text or DEFAULT_TEXT
        written.text_format_source.inline_string = text if text.endswith("\n") else f"{text}\n"
    return file_pb2.FileAccessLog(path=provider.path, log_format=written)


def _open_telemetry(provider: LogProvider) -> logs_service_pb2.OpenTelemetryAccessLogConfig:
    found = logs_service_pb2.OpenTelemetryAccessLogConfig()
    found.common_config.log_name = provider.log_name
    found.common_config.transport_api_version = 2
    found.common_config.grpc_service.CopyFrom(_grpc(provider.host, provider.port))
    found.body.string_value = provider.text or DEFAULT_TEXT
    for key, value in provider.fields:
        said = json.loads(value)
        # An attribute is one text here: what is nested stays JSON.
        found.attributes.values.add(key=key).value.string_value = said if isinstance(said, str) else value
    return found


def _envoy_grpc(provider: LogProvider, *, http: bool) -> tuple[str, Any]:
    common = als_pb2.CommonGrpcAccessLogConfig(
        log_name=provider.log_name, grpc_service=_grpc(provider.host, provider.port), transport_api_version="V3"
    )
    if http:
        return "envoy.access_loggers.http_grpc", als_pb2.HttpGrpcAccessLogConfig(common_config=common)
    return "envoy.access_loggers.tcp_grpc", als_pb2.TcpGrpcAccessLogConfig(common_config=common)


def _grpc(host: str, port: int) -> grpc_service_pb2.GrpcService:
    service = grpc_service_pb2.GrpcService()
    service.envoy_grpc.cluster_name = f"outbound|{port}||{host}"
    service.envoy_grpc.authority = host
    return service


def _tracing(said: Tracing) -> Any:
    """Requests that arrive as part of a trace are always in it; of the others a share begins one."""
    tracing = Hcm.Tracing(
        client_sampling=percent_pb2.Percent(value=100),
        random_sampling=percent_pb2.Percent(value=said.sampling_percent),
        overall_sampling=percent_pb2.Percent(value=100),
        custom_tags=[_tag(tag) for tag in said.tags],
    )
    if said.provider:
        if said.provider.max_tag_length:
            tracing.max_path_tag_length.CopyFrom(uint32(said.provider.max_tag_length))
        tracing.provider.CopyFrom(_provider(said))
    return tracing


def _provider(said: Tracing) -> http_tracer_pb2.Tracing.Http:
    provider = said.provider
    assert provider is not None, "the caller looked"
    cluster = f"outbound|{provider.port}||{provider.host}"
    if provider.kind is TraceKind.ZIPKIN:
        zipkin = zipkin_pb2.ZipkinConfig(
            collector_cluster=cluster,
            collector_hostname=provider.host,
            collector_endpoint=provider.path,
            collector_endpoint_version=zipkin_pb2.ZipkinConfig.HTTP_JSON,
            trace_id_128bit=True,
        )
        zipkin.shared_span_context.value = False
        return http_tracer_pb2.Tracing.Http(name="envoy.tracers.zipkin", typed_config=packed(zipkin))
    config = opentelemetry_pb2.OpenTelemetryConfig(service_name=said.service)
    if provider.path:
        uri = http_uri_pb2.HttpUri(
            uri=f"http://{provider.host}:{provider.port}{provider.path}",
            cluster=cluster,
            timeout=seconds(provider.timeout_seconds),
        )
        config.http_service.CopyFrom(http_service_pb2.HttpService(http_uri=uri))
    else:
        config.grpc_service.CopyFrom(_grpc(provider.host, provider.port))
    return http_tracer_pb2.Tracing.Http(name="envoy.tracers.opentelemetry", typed_config=packed(config))


def _tag(tag: TraceTag) -> custom_tag_pb2.CustomTag:
    found = custom_tag_pb2.CustomTag(tag=tag.name)
    match tag.source:
        case TagSource.LITERAL:
            found.literal.value = tag.value
        case TagSource.ENVIRONMENT:
            found.environment.name, found.environment.default_value = tag.value, tag.default
        case TagSource.HEADER:
            found.request_header.name, found.request_header.default_value = tag.value, tag.default
        case TagSource.FORMATTER:
            found.value = tag.value
    return found
