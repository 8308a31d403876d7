"""What becomes of remote secrets, answered from a file alone: the control plane's own reading of them, asked without a server."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from isthmus.api.core import Secret
from isthmus.controlplane.remote_secrets import LABEL, is_remote_secret, remote_clusters
from isthmus.model.names import ClusterId

Object = dict[str, Any]

_ALLOWED = "PILOT_INSECURE_MULTICLUSTER_KUBECONFIG_OPTIONS"


def check(secret: Object, config_cluster: str, system_namespace: str, environment: Mapping[str, Any]) -> Object:
    """`{accepted, rejected: [{cluster, reason}], ignored: [{cluster, reason}]}`. Raises ValueError for what is no Secret."""
    decoded = _decoded(secret, 0)
    if not is_remote_secret(decoded, system_namespace):
        why = f"only Secrets with the label {LABEL}=true in namespace {system_namespace} are read"
        return {"accepted": [], "rejected": [], "ignored": [{"cluster": key, "reason": why} for key in decoded.data]}
    wanted, issues = remote_clusters([decoded], ClusterId(config_cluster), allowed=allowed_by(environment))
    return {
        "accepted": sorted(wanted),
        "rejected": [{"cluster": issue.field.removeprefix("data."), "reason": issue.what} for issue in issues],
        "ignored": [
            {"cluster": key, "reason": "this is the control plane's own cluster"}
            for key in decoded.data
            if key == config_cluster
        ],
    }


def simulate(
    steps: Sequence[Mapping[str, Any]], config_cluster: str, system_namespace: str, environment: Mapping[str, Any]
) -> Object:
    """For each step the clusters that are discovered after it, and those that it has connected (anew)."""
    secrets: dict[str, Secret] = {}
    connected: dict[ClusterId, str] = {}
    answers = []
    for number, step in enumerate(steps):
        if "apply" in step:
            secret = _decoded(step["apply"], number)
            name = f"{secret.metadata.namespace}/{secret.metadata.name}"
            created = (
                secrets[name].metadata.creation_timestamp if name in secrets else secret.metadata.creation_timestamp
            )
            secrets[name] = _created(secret, created)
        elif "delete" in step:
            secrets.pop(str(step["delete"]), None)
        else:
            raise ValueError(f"step {number} has neither apply nor delete")
        read = [secret for secret in secrets.values() if is_remote_secret(secret, system_namespace)]
        wanted, issues = remote_clusters(read, ClusterId(config_cluster), allowed=allowed_by(environment))
        now = {cluster: remote.digest for cluster, remote in wanted.items()}
        answers.append(
            {
                "name": step.get("name", ""),
                "remoteClusters": sorted(now),
                "reconnected": sorted(cluster for cluster, digest in now.items() if connected.get(cluster) != digest),
                "problems": [f"{issue.subject}: {issue.what}" for issue in issues],
            }
        )
        connected = now
    return {"steps": answers}


def allowed_by(environment: Mapping[str, Any]) -> tuple[str, ...]:
    """The fields of kubeconfigs that an operator allows in spite of their risk."""
    said = str(environment.get(_ALLOWED, ""))
    names = {"clientKey": "client-key", "clientCertificate": "client-certificate"}
    return tuple(names.get(part.strip(), part.strip()) for part in said.split(",") if part.strip())


def _decoded(obj: Object, order: int) -> Secret:
    """As an API server keeps it: `stringData` goes into `data`, and earlier is older."""
    if obj.get("kind") != "Secret":
        raise ValueError(f"kind {obj.get('kind')!r} is not Secret")
    data = dict(obj.get("data") or {})
    for key, text in (obj.get("stringData") or {}).items():
        data[key] = base64.b64encode(str(text).encode()).decode()
    stamp = {"creationTimestamp": f"2020-01-01T00:{order // 60 % 60:02}:{order % 60:02}Z"}
    metadata = stamp | {key: value for key, value in (obj.get("metadata") or {}).items() if value is not None}
    try:
        return msgspec.convert({"metadata": metadata, "data": data, "type": obj.get("type", "")}, type=Secret)
    except (msgspec.ValidationError, binascii.Error) as error:
        raise ValueError(f"Secret {metadata.get('name', '')}: {error}") from None


def _created(secret: Secret, moment: str) -> Secret:
    metadata = msgspec.structs.replace(secret.metadata, creation_timestamp=moment)
    return msgspec.structs.replace(secret, metadata=metadata)
