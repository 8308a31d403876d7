"""Values of Pods, and of the workloads that make them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from isthmus.apiserver import names
from isthmus.apiserver.defaults import PROBES
from isthmus.apiserver.faults import (
    Faults,
    at_least,
    duplicate,
    forbidden,
    invalid,
    one_of,
    required,
)
from isthmus.apiserver.metadata_values import labels
from isthmus.apiserver.validation import Fault

Object = dict[str, Any]

_DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_HANDLERS = ("exec", "grpc", "httpGet", "tcpSocket")
_PROBE_NUMBERS = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")
_PERCENT = re.compile("[0-9]+%")


def pod(obj: Object) -> Faults:
    yield from pod_spec("spec", obj.get("spec") or {})


def pod_spec(path: str, spec: Object) -> Faults:
    volumes = spec.get("volumes") or ()
    yield from _volumes(f"{path}.volumes", volumes)
    mountable = {volume.get("name") or "" for volume in volumes}
    seen: set[str] = set()
    if not spec.get("containers"):
        yield required(f"{path}.containers")
    for field in ("containers", "initContainers"):
        for position, container in enumerate(spec.get(field) or ()):
            where, name = f"{path}.{field}[{position}]", container.get("name") or ""
            if name and name in seen:
                yield duplicate(f"{where}.name", name)
            seen.add(name)
            yield from _container(where, container, mountable)
    yield from one_of(f"{path}.restartPolicy", spec.get("restartPolicy"), ("Always", "OnFailure", "Never"))
    yield from one_of(f"{path}.dnsPolicy", spec.get("dnsPolicy"), _DNS_POLICIES)
    yield from labels(f"{path}.nodeSelector", spec.get("nodeSelector"))
    for field, check in (
        ("serviceAccountName", names.subdomain),
        ("nodeName", names.subdomain),
        ("hostname", names.label),
        ("subdomain", names.label),
    ):
        if spec.get(field):
            yield from invalid(f"{path}.{field}", spec[field], check(spec[field]))
    seconds = spec.get("activeDeadlineSeconds")
    if seconds is not None and not 1 <= seconds < 2**31:
        yield from invalid(f"{path}.activeDeadlineSeconds", seconds, [f"must be between 1 and {2**31 - 1}, inclusive"])


def _volumes(path: str, found: Sequence[Object]) -> Faults:
    seen: set[str] = set()
    for position, volume in enumerate(found):
        where, name = f"{path}[{position}].name", volume.get("name") or ""
        if not name:
            yield required(where)
        else:
            yield from invalid(where, name, names.label(name))
        if name in seen:
            yield duplicate(where, name)
        seen.add(name)


def _container(path: str, container: Object, mountable: set[str]) -> Faults:
    name, image = container.get("name") or "", container.get("image") or ""
    if not name:
        yield required(f"{path}.name")
    else:
        yield from invalid(f"{path}.name", name, names.label(name))
    if not image:
        yield required(f"{path}.image")
    elif image != image.strip():
        yield from invalid(f"{path}.image", image, ["must not have leading or trailing whitespace"])
    yield from _ports(f"{path}.ports", container.get("ports") or ())
    for position, variable in enumerate(container.get("env") or ()):
        yield from _variable(f"{path}.env[{position}]", variable)
    for position, mount in enumerate(container.get("volumeMounts") or ()):
        where = f"{path}.volumeMounts[{position}]"
        if not mount.get("name"):
            yield required(f"{where}.name")
        elif mount["name"] not in mountable:
            yield Fault(f"{where}.name", "FieldValueNotFound", f'Not found: "{mount["name"]}"')
        if not mount.get("mountPath"):
            yield required(f"{where}.mountPath")
    for field in PROBES:
        if container.get(field) is not None:
            yield from _probe(f"{path}.{field}", container[field])
    yield from one_of(f"{path}.imagePullPolicy", container.get("imagePullPolicy"), _PULL_POLICIES)


def _ports(path: str, found: Sequence[Object]) -> Faults:
    seen = set()
    for position, port in enumerate(found):
        where, name, number = f"{path}[{position}]", port.get("name"), port.get("containerPort")
        if name:
            yield from invalid(f"{where}.name", name, names.port_name(name))
            if name in seen:
                yield duplicate(f"{where}.name", name)
            seen.add(name)
        if not number:
            yield required(f"{where}.containerPort")
        else:
            yield from invalid(f"{where}.containerPort", number, names.port(number))
        yield from one_of(f"{where}.protocol", port.get("protocol"), names.PROTOCOLS)


def _variable(path: str, variable: Object) -> Faults:
    name = variable.get("name") or ""
    if not name:
        yield required(f"{path}.name")
    elif not re.fullmatch("[ -<>-~]+", name):
        why = "a valid environment variable name must consist only of printable ASCII characters other than '='"
        yield from invalid(f"{path}.name", name, [why])
    if variable.get("value") and variable.get("valueFrom"):
        yield from invalid(f"{path}.valueFrom", "", ["may not be specified when `value` is not empty"])


def _probe(path: str, probe: Object) -> Faults:
    handlers = [field for field in _HANDLERS if probe.get(field) is not None]
    if not handlers:
        yield required(path, "must specify a handler type")
    yield from (forbidden(f"{path}.{extra}", "may not specify more than 1 handler type") for extra in handlers[1:])
    for field in ("httpGet", "tcpSocket"):
        target = (probe.get(field) or {}).get("port")
        if isinstance(target, int):
            yield from invalid(f"{path}.{field}.port", target, names.port(target))
    for field in _PROBE_NUMBERS:
        yield from at_least(f"{path}.{field}", probe.get(field), 0)


def deployment(obj: Object) -> Faults:
    spec = obj.get("spec") or {}
    yield from _workload(obj, "deployment")
    strategy = spec.get("strategy") or {}
    rolling = strategy.get("rollingUpdate")
    yield from one_of("spec.strategy.type", strategy.get("type"), ("Recreate", "RollingUpdate"))
    if rolling and strategy.get("type") == "Recreate":
        yield forbidden("spec.strategy.rollingUpdate", "may not be specified when strategy `type` is 'Recreate'")
    elif rolling:
        yield from _rolling("spec.strategy.rollingUpdate", rolling)
    yield from at_least("spec.minReadySeconds", spec.get("minReadySeconds"), 0)
    yield from at_least("spec.revisionHistoryLimit", spec.get("revisionHistoryLimit"), 0)


def _rolling(path: str, rolling: Object) -> Faults:
    for field in ("maxSurge", "maxUnavailable"):
        value = rolling.get(field)
        if isinstance(value, str) and not _PERCENT.fullmatch(value):
            why = "a valid percent string must be a numeric string followed by an ending '%' "
            why += "(e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')"
            yield from invalid(f"{path}.{field}", value, [why])
        yield from at_least(f"{path}.{field}", value, 0)
    if all(rolling.get(field) in (0, "0%") for field in ("maxSurge", "maxUnavailable")):
        yield from invalid(f"{path}.maxUnavailable", rolling["maxUnavailable"], ["may not be 0 when `maxSurge` is 0"])


def replica_set(obj: Object) -> Faults:
    yield from _workload(obj, "deployment")


def stateful_set(obj: Object) -> Faults:
    yield from _workload(obj, "statefulset")


def daemon_set(obj: Object) -> Faults:
    yield from _workload(obj, "daemonset")


def _workload(obj: Object, word: str) -> Faults:
    spec = obj.get("spec") or {}
    selector, template = spec.get("selector"), spec.get("template") or {}
    found = (template.get("metadata") or {}).get("labels")
    yield from at_least("spec.replicas", spec.get("replicas"), 0)
    if selector is None:
        yield required("spec.selector")
    elif not selector.get("matchLabels") and not selector.get("matchExpressions"):
        yield from invalid("spec.selector", selector, [f"empty selector is invalid for {word}"])
    wanted = (selector or {}).get("matchLabels") or {}
    if selector is None or any((found or {}).get(key) != value for key, value in wanted.items()):
        yield from invalid("spec.template.metadata.labels", found, ["`selector` does not match template `labels`"])
    yield from labels("spec.template.metadata.labels", found)
    yield from pod_spec("spec.template.spec", template.get("spec") or {})
