"""Values of ConfigMaps, Secrets, roles, leases and events."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec

from isthmus.apiserver import names
from isthmus.apiserver.faults import Faults, at_least, invalid, one_of, required, too_long

Object = dict[str, Any]

_TEXTS_MAX = 1_048_576


def config_map(obj: Object) -> Faults:
    texts, raw = obj.get("data") or {}, obj.get("binaryData") or {}
    for key in texts:
        yield from invalid(f"data[{key}]", key, names.config_key(key))
        if key in raw:
            yield from invalid(f"data[{key}]", key, ["duplicate of key present in binaryData"])
    for key in raw:
        yield from invalid(f"binaryData[{key}]", key, names.config_key(key))
    if sum(len(text.encode()) for text in texts.values()) + sum(map(_bytes, raw.values())) > _TEXTS_MAX:
        yield too_long("[]", _TEXTS_MAX)


_KEYS_OF_SECRETS = {
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/dockercfg": (".dockercfg",),
}
_JSON_SECRETS = ("kubernetes.io/dockerconfigjson", "kubernetes.io/dockercfg")
_BASIC = "kubernetes.io/basic-auth"
_TOKEN = "kubernetes.io/service-account-token"
_ACCOUNT = "kubernetes.io/service-account.name"


def secret(obj: Object) -> Faults:
    data, type_ = obj.get("data") or {}, obj.get("type", "")
    for key in data:
        yield from invalid(f"data[{key}]", key, names.config_key(key))
    if sum(map(_bytes, data.values())) > _TEXTS_MAX:
        yield too_long("data", _TEXTS_MAX)
    yield from (required(f"data[{key}]") for key in _KEYS_OF_SECRETS.get(type_, ()) if key not in data)
    if type_ in _JSON_SECRETS:
        for key in _KEYS_OF_SECRETS[type_]:
            if key in data and not _is_json(data[key]):
                yield from invalid(f"data[{key}]", "<secret contents redacted>", ["it is not JSON"])
    if type_ == _BASIC and not data.keys() & {"username", "password"}:
        yield from (required(f"data[{key}]") for key in ("username", "password"))
    if type_ == _TOKEN and not (obj["metadata"].get("annotations") or {}).get(_ACCOUNT):
        yield required(f"metadata.annotations[{_ACCOUNT}]")


def _bytes(text: str) -> int:
    """How many base64 stands for."""
    return len(text) * 3 // 4 - text[-2:].count("=")


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(base64.b64decode(text))
    except (binascii.Error, msgspec.DecodeError):
        return False
    return True


def role(obj: Object) -> Faults:
    for position, rule in enumerate(obj.get("rules") or ()):
        path = f"rules[{position}]"
        if not rule.get("verbs"):
            yield required(f"{path}.verbs", "verbs must contain at least one value")
        if rule.get("nonResourceURLs"):
            continue
        if not rule.get("apiGroups"):
            yield required(f"{path}.apiGroups", "resource rules must supply at least one api group")
        if not rule.get("resources"):
            yield required(f"{path}.resources", "resource rules must supply at least one resource")


def lease(obj: Object) -> Faults:
    spec = obj.get("spec") or {}
    yield from at_least("spec.leaseDurationSeconds", spec.get("leaseDurationSeconds"), 1)
    yield from at_least("spec.leaseTransitions", spec.get("leaseTransitions"), 0)


def event(obj: Object) -> Faults:
    about, namespace = (obj.get("involvedObject") or {}).get("namespace") or "", obj["metadata"].get("namespace")
    if about and about != namespace:
        yield from invalid("involvedObject.namespace", about, ["does not match event.namespace"])


def role_binding(obj: Object) -> Faults:
    supported = ("Role", "ClusterRole") if obj["metadata"].get("namespace") else ("ClusterRole",)
    yield from one_of("roleRef.kind", (obj.get("roleRef") or {}).get("kind"), supported)
