"""What becomes of remote secrets, answered from a file alone: the control plane's own reading of them, asked without a server."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from isthmus.api.core import Secret
from isthmus.controlplane.remote_secrets import (
    LABEL,
    RISKS,
    RemoteCluster,
    RemoteRules,
    accepted_risks,
    after,
    is_remote_secret,
    reading_of,
    transition,
)
from isthmus.model.names import ClusterId, Namespace

Object = dict[str, Any]


def check(secret: Object, config_cluster: str, system_namespace: str, environment: Mapping[str, Any]) -> Object:
    """`{accepted, rejected: [{cluster, reason}], ignored: [{cluster, reason}]}`. Raises ValueError for what is no Secret."""
    decoded = _decoded(secret, 0)
    rules = _rules(config_cluster, system_namespace, environment)
    if not is_remote_secret(decoded, rules):
        why = f"only Secrets with the label {LABEL}=true in namespace {system_namespace} are read"
        return {"accepted": [], "rejected": [], "ignored": [{"cluster": key, "reason": why} for key in decoded.data]}
    reading = reading_of([decoded], rules)
    return {
        "accepted": sorted(reading.clusters),
        "rejected": [{"cluster": entry.cluster, "reason": entry.reason} for entry in reading.rejected],
        "ignored": [{"cluster": entry.cluster, "reason": entry.reason} for entry in reading.ignored],
    }


def simulate(
    steps: Sequence[Mapping[str, Any]], config_cluster: str, system_namespace: str, environment: Mapping[str, Any]
) -> Object:
    """For each step the clusters that are discovered after it, and those that it has connected (anew)."""
    secrets: dict[str, Secret] = {}
    connected: dict[ClusterId, RemoteCluster] = {}
    rules = _rules(config_cluster, system_namespace, environment)
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
        reading = reading_of(secrets.values(), rules)
        change = transition(connected, reading)
        connected = after(connected, change)
        answers.append(
            {
                "name": step.get("name", ""),
                "remoteClusters": sorted(connected),
                "reconnected": [remote.id for remote in change.connect],
                "problems": [f"{issue.subject}: {issue.what}" for issue in reading.issues],
            }
        )
    return {"steps": answers}


def _rules(config_cluster: str, system_namespace: str, environment: Mapping[str, Any]) -> RemoteRules:
    return RemoteRules(
        own_cluster=ClusterId(config_cluster),
        system_namespace=Namespace(system_namespace),
        allowed=accepted_risks(str(environment.get(RISKS, ""))),
    )


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
