"""Telemetry and its providers."""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.assurance.analysis.items import Index
from isthmus.assurance.catalogue import objects, policies
from isthmus.model.issues import Issue

_OUTDATED = ("lightstep", "opencensus")


def providers(index: Index) -> Iterator[Issue]:
    """An entry without providers uses the mesh's own; without those it does nothing."""
    defaults = index.settings.mesh_config.get("defaultProviders") or {}
    for item in index.each("Telemetry"):
        for kind in ("accessLogging", "tracing", "metrics"):
            if defaults.get(kind):
                continue
            for number, part in enumerate(item.spec.get(kind) or []):
                if kind == "accessLogging" and not part.get("providers") and not part.get("disabled"):
                    yield item.finding(
                        policies.INVALID_PROVIDER,
                        "names no provider, and there is no default",
                        path=f"spec.{kind}[{number}]",
                    )


def outdated_providers(index: Index) -> Iterator[Issue]:
    outdated = {
        provider.get("name"): kind
        for provider in index.settings.mesh_config.get("extensionProviders") or []
        for kind in _OUTDATED
        if isinstance(provider, dict) and provider.get(kind) is not None
    }
    for item in index.each("Telemetry"):
        for number, tracing in enumerate(item.spec.get("tracing") or []):
            for provider in tracing.get("providers") or []:
                kind = outdated.get(provider.get("name"))
                if kind:
                    yield item.finding(
                        objects.DEPRECATED, f"provider {provider['name']} is of the kind {kind}, which is outdated",
                        "Use an opentelemetry provider.", path=f"spec.tracing[{number}].providers",
                    )  # fmt: skip
