"""MeshConfig's words about telemetry: providers, defaults, and the older keys that say the same."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from isthmus.api.meta import PortNumber, Wire
from isthmus.ingest.checked import WHOLE_MAX
from isthmus.ingest.command_operators import bad_format
from isthmus.ingest.mesh_values import read_as
from isthmus.model.addresses import is_port
from isthmus.model.durations import seconds_of
from isthmus.model.telemetry import LogKind, LogProvider, TelemetryDefaults, TraceKind, TraceProvider

KEYS = frozenset(
    ("accessLogFile", "accessLogFormat", "accessLogEncoding", "enableTracing", "defaultConfig", "defaultProviders")
)
PROMETHEUS = "prometheus"
ENVOY = "envoy"
"""The provider that Istio has without being told, and that accessLogFile means."""

_FILE_NAME_MAX = 255
_LEGACY_TRACES = "zipkin (defaultConfig.tracing)"


class _Format(Wire, frozen=True):
    text: str = ""
    labels: dict[str, Any] = {}


class _FileLog(Wire, frozen=True):
    path: str = "/dev/stdout"
    log_format: _Format | None = None


class _Server(Wire, frozen=True):
    service: str
    port: PortNumber
    log_name: str = ""
    log_format: _Format | None = None


class _Http(Wire, frozen=True):
    path: str = "/v1/traces"
    timeout: str = "5s"


class _TraceServer(Wire, frozen=True):
    service: str
    port: PortNumber
    max_tag_length: int = 0
    http: _Http | None = None


_LOG_SERVERS = {
    "envoyOtelAls": LogKind.OPEN_TELEMETRY,
    "envoyHttpAls": LogKind.ENVOY_HTTP,
    "envoyTcpAls": LogKind.ENVOY_TCP,
}
_TRACES = {"zipkin": TraceKind.ZIPKIN, "opentelemetry": TraceKind.OPEN_TELEMETRY}


def telemetry_defaults_of(config: Mapping[str, Any]) -> tuple[TelemetryDefaults, tuple[str, ...]]:
    """With what is wrong with providers that cannot be used."""
    wrong: list[str] = []
    logs = {ENVOY: _envoy(config, wrong)}
    traces: dict[str, TraceProvider] = {}
    metrics, others = [], []
    for index, name, kind, raw in _entries(config):
        try:
            if kind == "envoyFileAccessLog":
                logs[name] = _file(name, read_as(_FileLog, raw))
            elif kind in _LOG_SERVERS:
                logs[name] = _log_server(name, _LOG_SERVERS[kind], read_as(_Server, raw))
            elif kind == PROMETHEUS:
                metrics.append(name)
            elif kind in _TRACES:
                traces[name] = _trace_server(name, _TRACES[kind], read_as(_TraceServer, raw))
            else:
                others.append(name)
        except ValueError as error:
            wrong.append(f"extensionProviders[{index}].{kind}: {error}: the provider is left out")
    old = _legacy_traces(config)
    if old:
        traces[old.name] = old
    named = config.get("defaultProviders") or {}
    default_logs = tuple(named.get("accessLogging") or ((ENVOY,) if config.get("accessLogFile") else ()))
    default_traces = tuple(named.get("tracing") or ((old.name,) if old and config.get("enableTracing") else ()))
    tracing = (config.get("defaultConfig") or {}).get("tracing") or {}
    known_metrics = tuple(dict.fromkeys((PROMETHEUS, *sorted(metrics))))
    value = TelemetryDefaults(
        logs=tuple(logs[name] for name in sorted(logs)),
        traces=tuple(traces[name] for name in sorted(traces)),
        default_logs=tuple(name for name in default_logs if name in logs),
        default_trace=next((name for name in default_traces if name in traces), ""),
        sampling_percent=_sampling(tracing, wrong),
        metrics=known_metrics,
        default_metrics=tuple(name for name in named.get("metrics") or () if name in known_metrics),
        other_providers=tuple(sorted(others)),
    )
    return value, tuple(wrong)


def _sampling(tracing: Mapping[str, Any], wrong: list[str]) -> float:
    said = tracing.get("sampling", 1.0)
    if isinstance(said, int | float) and 0 <= said <= 100:
        return float(said)
    wrong.append(f"defaultConfig.tracing.sampling: {said!r:.40} is no percentage: 1 holds")
    return 1.0


def _entries(config: Mapping[str, Any]) -> Iterator[tuple[int, str, str, Any]]:
    said = config.get("extensionProviders") or ()
    for index, entry in enumerate(said if isinstance(said, Sequence) else ()):
        if isinstance(entry, Mapping):
            for kind in entry.keys() - {"name"}:
                yield index, str(entry.get("name", "")), kind, entry[kind]


def _envoy(config: Mapping[str, Any], wrong: list[str]) -> LogProvider:
    """What the older keys say of the log of each proxy. A format that cannot be read is as if none was said."""
    as_json = config.get("accessLogEncoding") == "JSON"
    said = str(config.get("accessLogFormat") or "")
    fields: tuple[tuple[str, str], ...] = ()
    if as_json and said:
        said, unread = "", said
        try:
            fields = _fields(json.loads(unread))
        except ValueError as error:
            wrong.append(f"accessLogFormat: {error}: the usual format is used")
    if why := _refused(said, fields):
        wrong.append(f"accessLogFormat: {why}: the usual format is used")
        said, fields = "", ()
    path = str(config.get("accessLogFile") or "/dev/stdout")
    return LogProvider(name=ENVOY, kind=LogKind.FILE, path=path, text=said, fields=fields, as_json=as_json)


def _file(name: str, said: _FileLog) -> LogProvider:
    format_ = _checked(said.log_format or _Format())
    fields = _fields(format_.labels)
    if not said.path or "\0" in said.path or any(len(part.encode()) > _FILE_NAME_MAX for part in said.path.split("/")):
        raise ValueError(f"{said.path!r:.60} can be no file")
    return LogProvider(
        name=name, kind=LogKind.FILE, path=said.path, text=format_.text, fields=fields, as_json=bool(fields)
    )


def _log_server(name: str, kind: LogKind, said: _Server) -> LogProvider:
    format_ = _checked(said.log_format or _Format())
    return LogProvider(
        name=name,
        kind=kind,
        host=_host(said.service),
        port=said.port,
        text=format_.text,
        fields=_fields(format_.labels),
        log_name=said.log_name or {LogKind.OPEN_TELEMETRY: "otel_envoy_accesslog"}.get(kind, "http_envoy_accesslog"),
    )


def _checked(said: _Format) -> _Format:
    """Raises ValueError for what Envoy would refuse, with the whole listener."""
    if why := _refused(said.text, _fields(said.labels)):
        raise ValueError(f"logFormat: {why}")
    return said


def _refused(text: str, fields: Sequence[tuple[str, str]]) -> str:
    inside = (each for _, value in fields for each in _texts(json.loads(value)))
    return next(filter(None, map(bad_format, (text, *inside))), "")


def _texts(value: object) -> Iterator[str]:
    """All that are in a value of JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def _trace_server(name: str, kind: TraceKind, said: _TraceServer) -> TraceProvider:
    if not 0 <= said.max_tag_length <= WHOLE_MAX:
        raise ValueError(f"maxTagLength {said.max_tag_length} is not between 0 and {WHOLE_MAX}")
    path = "/api/v2/spans" if kind is TraceKind.ZIPKIN else said.http.path if said.http else ""
    return TraceProvider(
        name=name,
        kind=kind,
        host=_host(said.service),
        port=said.port,
        path=path,
        max_tag_length=said.max_tag_length,
        timeout_seconds=seconds_of(said.http.timeout) if said.http else 5.0,
    )


def _legacy_traces(config: Mapping[str, Any]) -> TraceProvider | None:
    tracing = (config.get("defaultConfig") or {}).get("tracing") or {}
    host, _, port = str((tracing.get("zipkin") or {}).get("address", "")).rpartition(":")
    if not host or not is_port(port):
        return None
    return TraceProvider(
        name=_LEGACY_TRACES, kind=TraceKind.ZIPKIN, host=_host(host), port=int(port), path="/api/v2/spans"
    )


def _fields(labels: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(labels, Mapping):
        return ()
    return tuple((str(key), json.dumps(value)) for key, value in labels.items())


def _host(service: str) -> str:
    """`namespace/host` or a host; a Service may be shortened to name.namespace."""
    host = service.rpartition("/")[2].lower()
    return f"{host}.svc.cluster.local" if host.count(".") == 1 else host
