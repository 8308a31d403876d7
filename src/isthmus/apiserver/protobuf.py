"""Kubernetes protobuf request bodies, decoded to JSON objects.

Clients since 1.32 send typed kinds as protobuf and do not fall back to JSON. The envelope is `k8s\\0` and a runtime.Unknown; the messages are
described by tables of field numbers, those of the generated.proto files of k8s.io/api. A body with a field that is in no table is refused: to leave
it out would lose what somebody wrote. A status is not decoded, but for those of Namespaces and signing requests: who writes another sends JSON, and
is told so.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

MAGIC = b"k8s\x00"


class BadProtobuf(ValueError):
    """A body that is not what it says it is."""


class UnknownField(BadProtobuf):
    """A field that is in no table."""


Decode = Callable[[bytes], Any]
Field = tuple[str, str | Decode | dict[int, Any]]
Table = dict[int, Field]
"""Field number → (JSON name, how): `s` text, `i` number, `b` boolean, `x` bytes, `m` map of text, `mx` of bytes, `mq` of quantities, a table; `*`: a
list; `-`: not read. Without a name, its fields are those of
the message around it.
`?` keeps a zero value: the field is a pointer, whose zero is not the same as its absence."""


def decode(body: bytes, *, is_status: bool = False) -> dict[str, Any]:
    """A whole request body. Raises BadProtobuf, also for a kind that has no table, and for a status (`is_status`) that is not decoded."""
    if not body.startswith(MAGIC):
        raise BadProtobuf("the body does not start with the protobuf envelope of Kubernetes")
    api_version = kind = ""
    raw = b""
    for number, value in _fields(body[len(MAGIC) :]):
        if number == 1 and isinstance(value, bytes):
            head = _message(value, {1: ("apiVersion", "s"), 2: ("kind", "s")})
            api_version, kind = head.get("apiVersion", ""), head.get("kind", "")
        elif number == 2 and isinstance(value, bytes):
            raw = value
    table = _KINDS.get(kind)
    if table is None:
        raise BadProtobuf(f"kind {kind!r} is not accepted as protobuf: send JSON")
    if is_status and ("status", "-") in table.values():
        raise BadProtobuf(f"the status of a {kind} is not accepted as protobuf: send JSON")
    try:
        return {"apiVersion": api_version, "kind": kind} | _message(raw, table)
    except UnknownField as unknown:
        raise BadProtobuf(f"{kind} has a field that is not accepted as protobuf ({unknown}): send JSON") from None


def _message(body: bytes, table: Table) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for number, value in _fields(body):
        field = table.get(number)
        if field is None:
            if value in (0, b""):
                continue  # What is not set, as some encoders write it.
            raise UnknownField(f"number {number}")
        name, how = field
        if how == "-":
            continue
        if not name:
            out |= _value(value, how)
            continue
        many = isinstance(how, str) and how.startswith("*")
        if name.startswith("*"):
            name, many = name[1:], True
        if many:
            out.setdefault(name, []).append(_value(value, how.lstrip("*") if isinstance(how, str) else how))
        elif isinstance(how, str) and how in ("m", "mx", "mq"):
            key, item = _entry(value, how)
            out.setdefault(name, {})[key] = item
        else:
            kept = isinstance(how, str) and how.endswith("?")
            decoded = _value(value, how.rstrip("?") if isinstance(how, str) else how)
            if kept or decoded not in ("", 0, False, None, {}):
                out[name] = decoded
    return out


def _value(value: int | bytes, how: Any) -> Any:
    if how == "i":
        return _signed(_number(value))
    if how == "b":
        return bool(_number(value))
    raw = _bytes(value)
    if how == "s":
        return _text(raw)
    if how == "x":
        return base64.b64encode(raw).decode()
    if callable(how):
        return how(raw)
    return _message(raw, how)


def _entry(value: int | bytes, how: str) -> tuple[str, str]:
    key, item = "", b""
    for number, part in _fields(_bytes(value)):
        if number == 1:
            key = _text(_bytes(part))
        elif number == 2:
            item = _bytes(part)
    match how:
        case "mx":
            return key, base64.b64encode(item).decode()
        case "mq":
            return key, _quantity(item)
        case _:
            return key, _text(item)


def _fields(body: bytes) -> Iterator[tuple[int, int | bytes]]:
    position = 0
    while position < len(body):
        tag, position = _varint(body, position)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, position = _varint(body, position)
            yield number, value
        elif wire in (1, 5, 2):
            if wire == 2:
                length, position = _varint(body, position)
            else:
                length = 8 if wire == 1 else 4
            if position + length > len(body):
                raise BadProtobuf("the body is cut off")
            yield number, body[position : position + length]
            position += length
        else:
            raise BadProtobuf(f"unknown wire type {wire}")


def _varint(body: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(body) or shift > 63:
            raise BadProtobuf("the body is cut off")
        byte = body[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _number(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise BadProtobuf("a number was expected")
    return value


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise BadProtobuf("text or a message was expected")
    return value


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise BadProtobuf("text is not UTF-8") from None


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _time(raw: bytes) -> str | None:
    parts = _message(raw, {1: ("seconds", "i"), 2: ("nanos", "i")})
    if not parts.get("seconds"):
        return None
    return datetime.fromtimestamp(parts["seconds"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _micro_time(raw: bytes) -> str | None:
    parts = _message(raw, {1: ("seconds", "i"), 2: ("nanos", "i")})
    if not parts.get("seconds"):
        return None
    moment = datetime.fromtimestamp(parts["seconds"], UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + f".{parts.get('nanos', 0) // 1000:06d}Z"


def _int_or_string(raw: bytes) -> int | str:
    parts = _message(raw, {1: ("type", "i"), 2: ("int", "i"), 3: ("text", "s")})
    return str(parts.get("text", "")) if parts.get("type") else int(parts.get("int", 0))


def _quantity(raw: bytes) -> str:
    return str(_message(raw, {1: ("text", "s")}).get("text", ""))


_OWNER: Table = {
    1: ("kind", "s"),
    3: ("name", "s"),
    4: ("uid", "s"),
    5: ("apiVersion", "s"),
    6: ("controller", "b?"),
    7: ("blockOwnerDeletion", "b?"),
}
_META: Table = {
    1: ("name", "s"),
    2: ("generateName", "s"),
    3: ("namespace", "s"),
    5: ("uid", "s"),
    6: ("resourceVersion", "s"),
    7: ("generation", "i"),
    8: ("creationTimestamp", _time),
    9: ("deletionTimestamp", _time),
    10: ("deletionGracePeriodSeconds", "i?"),
    11: ("labels", "m"),
    12: ("annotations", "m"),
    13: ("*ownerReferences", _OWNER),
    14: ("finalizers", "*s"),
    17: ("managedFields", "-"),
}
_REFERENCE: Table = {
    1: ("kind", "s"),
    2: ("namespace", "s"),
    3: ("name", "s"),
    4: ("uid", "s"),
    5: ("apiVersion", "s"),
    6: ("resourceVersion", "s"),
    7: ("fieldPath", "s"),
}
_LOCAL: Table = {1: ("name", "s")}
_EXPRESSION: Table = {1: ("key", "s"), 2: ("operator", "s"), 3: ("values", "*s")}
_SELECTOR: Table = {1: ("matchLabels", "m"), 2: ("*matchExpressions", _EXPRESSION)}
_ENV_SOURCE: Table = {
    1: ("fieldRef", {1: ("apiVersion", "s"), 2: ("fieldPath", "s")}),
    3: ("configMapKeyRef", {1: ("", _LOCAL), 2: ("key", "s"), 3: ("optional", "b?")}),
    4: ("secretKeyRef", {1: ("", _LOCAL), 2: ("key", "s"), 3: ("optional", "b?")}),
}
_HTTP_GET: Table = {1: ("path", "s"), 2: ("port", _int_or_string), 3: ("host", "s"), 4: ("scheme", "s"),
                     5: ("*httpHeaders", {1: ("name", "s"), 2: ("value", "s")})}  # fmt: skip
_PROBE: Table = {
    1: (
        "",
        {
            1: ("exec", {1: ("command", "*s")}),
            2: ("httpGet", _HTTP_GET),
            3: ("tcpSocket", {1: ("port", _int_or_string), 2: ("host", "s")}),
            4: ("grpc", {1: ("port", "i"), 2: ("service", "s?")}),
        },
    ),
    2: ("initialDelaySeconds", "i"),
    3: ("timeoutSeconds", "i"),
    4: ("periodSeconds", "i"),
    5: ("successThreshold", "i"),
    6: ("failureThreshold", "i"),
    7: ("terminationGracePeriodSeconds", "i?"),
}
_CONTAINER: Table = {
    1: ("name", "s"),
    2: ("image", "s"),
    3: ("command", "*s"),
    4: ("args", "*s"),
    5: ("workingDir", "s"),
    6: (
        "*ports",
        {1: ("name", "s"), 2: ("hostPort", "i"), 3: ("containerPort", "i"), 4: ("protocol", "s"), 5: ("hostIP", "s")},
    ),
    7: ("*env", {1: ("name", "s"), 2: ("value", "s"), 3: ("valueFrom", _ENV_SOURCE)}),
    8: ("resources", {1: ("limits", "mq"), 2: ("requests", "mq")}),
    9: ("*volumeMounts", {1: ("name", "s"), 2: ("readOnly", "b"), 3: ("mountPath", "s"), 4: ("subPath", "s")}),
    10: ("livenessProbe", _PROBE),
    11: ("readinessProbe", _PROBE),
    13: ("terminationMessagePath", "s"),
    14: ("imagePullPolicy", "s"),
    20: ("terminationMessagePolicy", "s"),
    22: ("startupProbe", _PROBE),
}
_POD_SPEC: Table = {
    2: ("*containers", _CONTAINER),
    3: ("restartPolicy", "s"),
    4: ("terminationGracePeriodSeconds", "i?"),
    6: ("dnsPolicy", "s"),
    7: ("nodeSelector", "m"),
    8: ("serviceAccountName", "s"),
    9: ("serviceAccount", "s"),
    10: ("nodeName", "s"),
    11: ("hostNetwork", "b"),
    16: ("hostname", "s"),
    17: ("subdomain", "s"),
    19: ("schedulerName", "s"),
    15: ("*imagePullSecrets", _LOCAL),
    20: ("*initContainers", _CONTAINER),
    21: ("automountServiceAccountToken", "b?"),
    24: ("priorityClassName", "s"),
    30: ("enableServiceLinks", "b?"),
}
_TEMPLATE: Table = {1: ("metadata", _META), 2: ("spec", _POD_SPEC)}
_SERVICE_PORT: Table = {
    1: ("name", "s"),
    2: ("protocol", "s"),
    3: ("port", "i"),
    4: ("targetPort", _int_or_string),
    5: ("nodePort", "i"),
    6: ("appProtocol", "s?"),
}
_SERVICE_SPEC: Table = {
    1: ("*ports", _SERVICE_PORT),
    2: ("selector", "m"),
    3: ("clusterIP", "s"),
    4: ("type", "s"),
    5: ("externalIPs", "*s"),
    7: ("sessionAffinity", "s"),
    8: ("loadBalancerIP", "s"),
    10: ("externalName", "s"),
    11: ("externalTrafficPolicy", "s"),
    13: ("publishNotReadyAddresses", "b"),
    17: ("ipFamilyPolicy", "s?"),
    18: ("clusterIPs", "*s"),
    19: ("ipFamilies", "*s"),
    22: ("internalTrafficPolicy", "s?"),
    23: ("trafficDistribution", "s?"),
}
_RULE: Table = {
    1: ("verbs", "*s"),
    2: ("apiGroups", "*s"),
    3: ("resources", "*s"),
    4: ("resourceNames", "*s"),
    5: ("nonResourceURLs", "*s"),
}
_BINDING: Table = {
    1: ("metadata", _META),
    2: ("*subjects", {1: ("kind", "s"), 2: ("apiGroup", "s"), 3: ("name", "s"), 4: ("namespace", "s")}),
    3: ("roleRef", {1: ("apiGroup", "s"), 2: ("kind", "s"), 3: ("name", "s")}),
}
_ROLE: Table = {
    1: ("metadata", _META),
    2: ("*rules", _RULE),
    3: ("aggregationRule", {1: ("*clusterRoleSelectors", _SELECTOR)}),
}
_ATTRIBUTES: Table = {
    1: ("namespace", "s"),
    2: ("verb", "s"),
    3: ("group", "s"),
    4: ("version", "s"),
    5: ("resource", "s"),
    6: ("subresource", "s"),
    7: ("name", "s"),
}
_ACCESS: Table = {
    1: ("metadata", _META),
    2: (
        "spec",
        {
            1: ("resourceAttributes", _ATTRIBUTES),
            2: ("nonResourceAttributes", {1: ("path", "s"), 2: ("verb", "s")}),
            3: ("user", "s"),
            4: ("groups", "*s"),
        },
    ),
    3: ("status", "-"),
}
_WORKLOAD_SPEC: Table = {
    1: ("replicas", "i?"),
    2: ("selector", _SELECTOR),
    3: ("template", _TEMPLATE),
    4: (
        "strategy",
        {
            1: ("type", "s"),
            2: ("rollingUpdate", {1: ("maxUnavailable", _int_or_string), 2: ("maxSurge", _int_or_string)}),
        },
    ),
    5: ("minReadySeconds", "i"),
    6: ("revisionHistoryLimit", "i?"),
    7: ("paused", "b"),
    9: ("progressDeadlineSeconds", "i?"),
}
_LEASE_SPEC: Table = {
    1: ("holderIdentity", "s?"),
    2: ("leaseDurationSeconds", "i?"),
    3: ("acquireTime", _micro_time),
    4: ("renewTime", _micro_time),
    5: ("leaseTransitions", "i?"),
}
_SIGNING_REQUEST: Table = {
    1: ("metadata", _META),
    2: ("spec", {1: ("request", "x"), 2: ("username", "s"), 3: ("uid", "s"), 4: ("groups", "*s"), 5: ("usages", "*s"), 6: ("extra", "-"),
                 7: ("signerName", "s"), 8: ("expirationSeconds", "i?")}),
    3: ("status", {
        1: ("*conditions", {1: ("type", "s"), 2: ("reason", "s"), 3: ("message", "s"), 4: ("lastUpdateTime", _time),
                            5: ("lastTransitionTime", _time), 6: ("status", "s")}),
        2: ("certificate", "x"),
    }),
}  # fmt: skip
"""Who asks, and with what extras, the server knows by itself. Conditions and the certificate are what approvers and signers write."""
_KINDS: dict[str, Table] = {
    "CertificateSigningRequest": _SIGNING_REQUEST,
    "ConfigMap": {1: ("metadata", _META), 2: ("data", "m"), 3: ("binaryData", "mx"), 4: ("immutable", "b?")},
    "Secret": {1: ("metadata", _META), 2: ("data", "mx"), 3: ("type", "s"), 4: ("stringData", "m"), 5: ("immutable", "b?")},
    "ResourceQuota": {
        1: ("metadata", _META),
        2: ("spec", {1: ("hard", "mq"), 2: ("scopes", "*s"),
                     3: ("scopeSelector", {1: ("*matchExpressions", {1: ("scopeName", "s"), 2: ("operator", "s"), 3: ("values", "*s")})})}),
        3: ("status", "-"),
    },
    "ServiceAccount": {
        1: ("metadata", _META), 2: ("*secrets", _REFERENCE), 3: ("*imagePullSecrets", _LOCAL), 4: ("automountServiceAccountToken", "b?"),
    },
    "Namespace": {1: ("metadata", _META), 2: ("spec", {1: ("finalizers", "*s")}), 3: ("status", {1: ("phase", "s")})},
    "Service": {1: ("metadata", _META), 2: ("spec", _SERVICE_SPEC), 3: ("status", "-")},
    "Pod": {1: ("metadata", _META), 2: ("spec", _POD_SPEC), 3: ("status", "-")},
    "Deployment": {1: ("metadata", _META), 2: ("spec", _WORKLOAD_SPEC), 3: ("status", "-")},
    "ReplicaSet": {
        1: ("metadata", _META),
        2: ("spec", {1: ("replicas", "i?"), 2: ("selector", _SELECTOR), 3: ("template", _TEMPLATE), 4: ("minReadySeconds", "i")}),
        3: ("status", "-"),
    },
    "Role": _ROLE,
    "ClusterRole": _ROLE,
    "RoleBinding": _BINDING,
    "ClusterRoleBinding": _BINDING,
    "TokenRequest": {
        1: ("metadata", _META),
        2: ("spec", {1: ("audiences", "*s"), 3: ("boundObjectRef", {1: ("kind", "s"), 2: ("apiVersion", "s"), 3: ("name", "s"),
                     4: ("uid", "s")}), 4: ("expirationSeconds", "i?")}),
        3: ("status", "-"),
    },
    "TokenReview": {1: ("metadata", _META), 2: ("spec", {1: ("token", "s"), 2: ("audiences", "*s")}), 3: ("status", "-")},
    "SubjectAccessReview": _ACCESS,
    "SelfSubjectAccessReview": _ACCESS,
    "LocalSubjectAccessReview": _ACCESS,
    "SelfSubjectRulesReview": {1: ("metadata", _META), 2: ("spec", {1: ("namespace", "s")}), 3: ("status", "-")},
    "SelfSubjectReview": {1: ("metadata", _META), 2: ("status", "-")},
    "DeleteOptions": {
        1: ("gracePeriodSeconds", "i?"), 2: ("preconditions", {1: ("uid", "s?"), 2: ("resourceVersion", "s?")}),
        3: ("orphanDependents", "b?"), 4: ("propagationPolicy", "s?"), 5: ("dryRun", "*s"),
    },
    "Lease": {1: ("metadata", _META), 2: ("spec", _LEASE_SPEC)},
    "Event": {
        1: ("metadata", _META), 2: ("involvedObject", _REFERENCE), 3: ("reason", "s"), 4: ("message", "s"),
        5: ("source", {1: ("component", "s"), 2: ("host", "s")}), 6: ("firstTimestamp", _time), 7: ("lastTimestamp", _time),
        8: ("count", "i"), 9: ("type", "s"), 10: ("eventTime", _micro_time), 14: ("reportingComponent", "s"),
        15: ("reportingInstance", "s"),
    },
}  # fmt: skip
