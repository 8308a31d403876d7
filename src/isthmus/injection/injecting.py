"""The question itself: a Pod in; the Pod with its proxy out, or why it is left as it is.

A container named `istio-proxy` that the Pod has already customizes the one that is added: what it says wins, as in Istio. Its image `auto` is a
placeholder. With the annotation `inject.istio.io/templates: gateway` the Pod is a gateway: no capture, and nothing beside the proxy is needed.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from isthmus.injection.metrics import led_to_the_agent
from isthmus.injection.probes import PROBERS, rewritten
from isthmus.injection.selection import REVISION_LABEL, STATUS_ANNOTATION, objection
from isthmus.injection.settings import PROXY_CONFIG, BadRequest, InjectionSettings, PodWishes, wishes_of
from isthmus.injection.sidecar import (
    INIT,
    PROXY,
    capture_container,
    names,
    proxy_container,
    unprivileged_ports,
    volumes,
)
from isthmus.injection.workloads import mesh_labels, owner_of
from isthmus.model.values import dataclass

Object = dict[str, Any]

TEMPLATES = "inject.istio.io/templates"
_PLACEHOLDER = "auto"


@dataclass(frozen=True, slots=True)
class Injected:
    """The Pod as it is to be, and what its owner may want to know."""

    pod: Object
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LeftAsItIs:
    """The Pod needs nothing, and why."""

    why: str


class _Metadata(msgspec.Struct, rename="camel"):
    name: str = ""
    generate_name: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[dict[str, Any]] | None = None


class _Container(msgspec.Struct, rename="camel"):
    name: str
    ports: list[dict[str, Any]] | None = None
    lifecycle: dict[str, dict[str, Any] | None] | None = None
    readiness_probe: dict[str, Any] | None = None
    liveness_probe: dict[str, Any] | None = None
    startup_probe: dict[str, Any] | None = None


class _Spec(msgspec.Struct, rename="camel"):
    containers: list[_Container] | None = None
    init_containers: list[_Container] | None = None
    volumes: list[dict[str, Any]] | None = None


class _Pod(msgspec.Struct):
    """As much of a Pod's shape as is relied on. An API server checks more, but later."""

    metadata: _Metadata
    spec: _Spec


def checked(pod: Any) -> Object:
    """The Pod, if it has the shape of one. Raises BadRequest."""
    try:
        msgspec.convert(pod, type=_Pod)
    except msgspec.ValidationError as error:
        raise BadRequest(f"not a Pod: {error}") from None
    return dict(pod)


def inject(pod: Mapping[str, Any], namespace: str, settings: InjectionSettings) -> Injected | LeftAsItIs:
    """Of a Pod that the selectors have chosen. The Pod itself is not changed. Raises BadRequest."""
    why = objection(checked(pod), namespace)
    if why:
        return LeftAsItIs(why)
    changed: Object = copy.deepcopy(dict(pod))
    metadata, spec = changed.setdefault("metadata", {}), changed.setdefault("spec", {})
    annotations = metadata.get("annotations") or {}
    wishes = wishes_of(annotations, settings)
    config = settings.own_proxies.for_workload(namespace, metadata.get("labels") or {}, wishes.proxy_config)
    wishes = replace(wishes, proxy_config=config)
    role = _role(annotations)
    containers = [each for each in spec.get("containers") or () if each["name"] != PROXY]
    customized: Object = next((each for each in spec.get("containers") or () if each["name"] == PROXY), {})
    if not containers and role == "sidecar":
        return LeftAsItIs("the Pod has no container that a sidecar could stand beside")
    proxy = proxy_container(role, settings, wishes, owner_of(changed))
    proxy["env"] += [
        {"name": "ISTIO_META_APP_CONTAINERS", "value": ",".join(names(containers))},
        {"name": "ISTIO_META_POD_PORTS", "value": json.dumps(_ports(containers), separators=(",", ":"))},
    ]
    if role == "sidecar" and wishes.rewrite_probes:
        asked = rewritten(containers)
        if asked:
            proxy["env"].append({"name": PROBERS, "value": json.dumps(asked, sort_keys=True, separators=(",", ":"))})
    asked_of_agent = led_to_the_agent(annotations, merges=settings.proxies.merges_metrics)
    proxy["env"] += asked_of_agent.variables
    _place(spec, containers, _customized(proxy, customized), wishes, role, settings)
    _describe(metadata, spec, containers, settings, role)
    metadata["annotations"] |= asked_of_agent.annotations
    unheard = (f"annotation {PROXY_CONFIG}: {word.field} has no effect: {word.why}" for word in wishes.unheard)
    return Injected(changed, (*unheard, *asked_of_agent.warnings))


def _role(annotations: Mapping[str, str]) -> str:
    template = annotations.get(TEMPLATES, "sidecar")
    if template not in ("sidecar", "gateway"):
        raise BadRequest(f"annotation {TEMPLATES}: {template!r} is not known: use sidecar or gateway")
    return "router" if template == "gateway" else "sidecar"


def _place(
    spec: Object, containers: list[Object], proxy: Object, wishes: PodWishes, role: str, settings: InjectionSettings
) -> None:
    """Capture and a native sidecar come before the Pod's own init containers, which may then call others."""
    first: list[Object] = []
    if role == "sidecar":
        first.append(capture_container(proxy["image"], wishes.capture, dns=settings.dns_capture))
    if role == "sidecar" and wishes.native:
        first.append(proxy | {"restartPolicy": "Always"})
        spec["containers"] = containers
    else:
        if wishes.proxy_config.hold_application:
            # The kubelet starts containers in order, and waits for each one's hook.
            proxy["lifecycle"] = {"postStart": {"exec": {"command": ["isthmus", "agent", "wait"]}}}
        spec["containers"] = [proxy, *containers]
    others = [each for each in spec.get("initContainers") or () if each["name"] not in (INIT, PROXY)]
    if first or others:
        spec["initContainers"] = [*first, *others]
    if role == "router":
        # It serves ports below 1024, too, and is not root.
        security = spec["securityContext"] = dict(spec.get("securityContext") or {})
        security.setdefault("sysctls", unprivileged_ports())
    own = {each["name"] for each in spec.get("volumes") or ()}
    spec["volumes"] = [*(spec.get("volumes") or ()), *(each for each in volumes() if each["name"] not in own)]


def _describe(metadata: Object, spec: Object, containers: list[Object], settings: InjectionSettings, role: str) -> None:
    """Labels, by which the mesh knows the Pod, and annotations, by which people and tools do."""
    labels = metadata["labels"] = dict(metadata.get("labels") or {})
    annotations = metadata["annotations"] = dict(metadata.get("annotations") or {})
    labels |= mesh_labels(labels, network=settings.network, fallback_name=owner_of({"metadata": metadata}).name)
    labels.setdefault(REVISION_LABEL, settings.revision)
    added = [each for each in names(spec.get("initContainers") or ()) if each in (INIT, PROXY)]
    annotations[STATUS_ANNOTATION] = json.dumps(
        {
            "initContainers": added,
            "containers": [each for each in names(spec["containers"]) if each == PROXY],
            "volumes": names(volumes()),
            "revision": settings.revision,
        },
        separators=(",", ":"),
    )
    if role == "sidecar":
        for tool in ("default-container", "default-logs-container"):
            annotations.setdefault(f"kubectl.kubernetes.io/{tool}", str(containers[0]["name"]))


def _ports(containers: list[Object]) -> list[Object]:
    return [port for container in containers for port in container.get("ports") or ()]


def _customized(proxy: Object, said: Mapping[str, Any]) -> Object:
    """Lists of named things are merged by name, objects by key; everything else is replaced."""
    if said.get("image") == _PLACEHOLDER:
        said = {key: value for key, value in said.items() if key != "image"}
    return _merged(proxy, said)


def _merged(base: Mapping[str, Any], said: Mapping[str, Any]) -> Object:
    found = dict(base)
    for key, value in said.items():
        have = found.get(key)
        if isinstance(have, dict) and isinstance(value, dict):
            found[key] = _merged(have, value)
        elif key in ("env", "ports", "volumeMounts") and isinstance(have, list) and isinstance(value, list):
            by = "mountPath" if key == "volumeMounts" else "name"
            theirs = {each.get(by) for each in value}
            found[key] = [*(each for each in have if each.get(by) not in theirs), *value]
        else:
            found[key] = value
    return found
