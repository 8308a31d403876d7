"""ProxyConfig objects, and MeshConfig's `defaultConfig`, become values; words that nothing follows are issues."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from isthmus.api import proxy_config as api
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId, Namespace
from isthmus.model.proxy_config import ProxyConfig, ProxyConfigRule
from isthmus.model.proxy_config_words import Word, read

CODE = "ISM0110"
_FROM_MESH_CONFIG = frozenset(("sampling", "zipkin"))
"""Of `tracing`, what MeshConfig's telemetry reads."""


def proxy_config_of(obj: api.ProxyConfig, cluster: ClusterId) -> tuple[ProxyConfigRule, tuple[Issue, ...]]:
    """An object says less than MeshConfig can: threads, and variables."""
    metadata, spec = obj.metadata, obj.spec
    said = {"concurrency": spec.concurrency, "proxyMetadata": spec.environment_variables}
    config, rest = read(said)
    subject = Subject(cluster, "ProxyConfig", metadata.namespace, metadata.name)
    rule = ProxyConfigRule(
        created=metadata.creation_timestamp,
        namespace=Namespace(metadata.namespace),
        name=metadata.name,
        selector=tuple(sorted(spec.selector.match_labels.items())) if spec.selector else (),
        config=config,
    )
    return rule, tuple(_issue(word, subject, "spec") for word in rest)


def default_config_of(config: Mapping[str, Any]) -> tuple[ProxyConfig, tuple[Word, ...]]:
    """MeshConfig's. Raises ValueError for what is no object."""
    said = config.get("defaultConfig") or {}
    if not isinstance(said, Mapping):
        raise ValueError("is not an object")
    found, rest = read({name: value for name, value in said.items() if name != "tracing"})
    return found, (*rest, *_tracing(said.get("tracing")))


def default_issues(rest: tuple[Word, ...], subject: Subject) -> Iterator[Issue]:
    return (_issue(word, subject, "data.mesh.defaultConfig") for word in rest)


def _tracing(said: object) -> Iterator[Word]:
    if said is not None and not isinstance(said, Mapping):
        yield Word("tracing", "is not an object", is_wrong=True)
    elif said:
        for name in sorted(said.keys() - _FROM_MESH_CONFIG):
            yield Word(f"tracing.{name}", "say it in extensionProviders, or in a Telemetry", is_wrong=False)


def _issue(word: Word, subject: Subject, path: str) -> Issue:
    return Issue(
        subject=subject,
        code=CODE,
        severity=Severity.ERROR if word.is_wrong else Severity.INFO,
        what=f"{word.field} has no effect: {word.why}",
        fix="correct it, or leave it out" if word.is_wrong else "leave it out, or know that it has no effect",
        field=f"{path}.{word.field}",
    )
