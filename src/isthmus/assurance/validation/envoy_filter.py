"""What EnvoyFilter, ProxyConfig and WasmPlugin mean beyond their shapes."""

from __future__ import annotations

import re
from collections.abc import Iterator

from isthmus.assurance.catalogue import validation as codes
from isthmus.assurance.validation.problems import Problem
from isthmus.assurance.validation.terms import Object, bad_url, regex, selected, selector, targets
from isthmus.model.envoy_filters import ApplyTo

_LISTENER = {"LISTENER", "FILTER_CHAIN", "NETWORK_FILTER", "HTTP_FILTER", "LISTENER_FILTER"}
_ROUTES = {"ROUTE_CONFIGURATION", "VIRTUAL_HOST", "HTTP_ROUTE"}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def envoy_filter(item: Object) -> Iterator[Problem]:
    spec = item.get("spec") or {}
    yield from targets(spec)
    chosen = (spec.get("workloadSelector") or {}).get("labels") or {}
    yield from selector(chosen, "spec.workloadSelector.labels")
    for index, patch in enumerate(spec.get("configPatches") or []):
        yield from _patch(patch, f"spec.configPatches[{index}]")


def _patch(given: Object, path: str) -> Iterator[Problem]:
    target, match, patch = given.get("applyTo", "INVALID"), given.get("match") or {}, given.get("patch")
    kinds = [key for key in ("listener", "routeConfiguration", "cluster", "waypoint") if match.get(key) is not None]
    if match.get("waypoint") is not None and match.get("context") != "WAYPOINT":
        yield Problem(codes.CONTRADICTION, f"{path}.match.waypoint", "waypoint is only for context WAYPOINT")
    if match.get("context") == "WAYPOINT" and kinds and kinds[0] != "waypoint":
        yield Problem(codes.CONTRADICTION, f"{path}.match.{kinds[0]}", f"context WAYPOINT has no {kinds[0]}")
    if "applyTo" in given and target == "INVALID":
        yield Problem(codes.MISSING, f"{path}.applyTo", "is required")
    wanted = "listener" if target in _LISTENER else "routeConfiguration" if target in _ROUTES else "cluster"
    if target in _LISTENER | _ROUTES | {"CLUSTER"} and kinds and kinds[0] not in (wanted, "waypoint"):
        yield Problem(
            codes.CONTRADICTION, f"{path}.match.{kinds[0]}", f"{target} is matched by {wanted}", f"use {wanted}"
        )
    version = (match.get("proxy") or {}).get("proxyVersion")
    if version:
        yield from regex(version, f"{path}.match.proxy.proxyVersion")
    if patch is not None:
        if patch.get("operation", "INVALID") == "INVALID":
            yield Problem(codes.MISSING, f"{path}.patch.operation", "is required")
        elif patch["operation"] != "REMOVE" and not patch.get("value"):
            yield Problem(codes.MISSING, f"{path}.patch.value", f"{patch['operation']} needs a value")
        elif patch["operation"] != "REMOVE" and target in ApplyTo.__members__:
            yield from _value(ApplyTo(target), patch["value"], f"{path}.patch.value")


def _value(target: ApplyTo, value: object, path: str) -> Iterator[Problem]:
    """Whether Envoy has such a message. What an Envoy of another version may have is no reason to refuse the object; the patch is left out."""
    from isthmus.envoy.patches.values import NotAMessage, parsed  # Envoy's types are loaded for those who patch.

    try:
        parsed(value, target)
    except NotAMessage as error:
        code = codes.HAS_NO_EFFECT if error.is_unknown else codes.WRONG_TYPE
        yield Problem(
            code, f"{path}{error.path}", str(error), "write it as Envoy's API has it, else the patch is left out"
        )


def proxy_config(item: Object) -> Iterator[Problem]:
    spec = item.get("spec") or {}
    yield from selector((spec.get("selector") or {}).get("matchLabels") or {}, "spec.selector.matchLabels")
    for name in spec.get("environmentVariables") or {}:
        if not _VARIABLE.fullmatch(name):
            yield Problem(
                codes.NOT_A_NAME, f"spec.environmentVariables['{name}']", f"{name!r} is not a variable's name"
            )


def wasm_plugin(item: Object) -> Iterator[Problem]:
    spec = item["spec"]
    yield from selected(spec)
    problem = bad_url(spec["url"], ("", "http", "https", "oci", "file"))
    if problem or spec["url"].startswith("#"):
        yield Problem(codes.BAD_URL, "spec.url", problem or f"{spec['url']!r} is not a URL")
    seen: set[str] = set()
    for index, variable in enumerate((spec.get("vmConfig") or {}).get("env") or []):
        where = f"spec.vmConfig.env[{index}]"
        if variable["name"] in seen:
            yield Problem(codes.TWICE, f"{where}.name", f"{variable['name']} is given twice")
        seen.add(variable["name"])
        if variable.get("valueFrom") == "HOST" and variable.get("value"):
            yield Problem(codes.CONTRADICTION, f"{where}.value", "a value may only be set when valueFrom is INLINE")
