"""The Secret by which another control plane discovers a cluster: a kubeconfig with a service account's token. Istio's format, byte for byte
where clients look: name, label, annotation, one cluster, one user and one context of the cluster's name.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from typing import Any

from isthmus.kubernetes.kubeconfig import ContextEntry, render

Object = dict[str, Any]

LABEL = "istio/multiCluster"
ANNOTATION = "networking.istio.io/cluster"
READER = "istio-reader-service-account"

_CLUSTER_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_TOKEN_SECRET = "kubernetes.io/service-account-token"
_OF_ACCOUNT = "kubernetes.io/service-account.name"


class CannotCreate(ValueError):
    """No remote secret can be made: what is missing or wrong, and what to do."""


def remote_secret(
    *,
    cluster: str,
    namespace: str,
    server: str,
    ca_pem: str,
    token: str,
    tls_server_name: str = "",
    kind: str = "remote",
) -> Object:
    """`kind` is `remote`, or `config` for the kubeconfig by which an external control plane reaches its own cluster."""
    if not _CLUSTER_NAME.fullmatch(cluster):
        raise CannotCreate(
            f"cluster name {cluster!r} is not a DNS label: lower case letters, digits and dashes, 63 at most"
        )
    if not server:
        raise CannotCreate("invalid kubeconfig: it has no server: name the address of the API server with --server")
    text = render(
        [ContextEntry(name=cluster, server=server, ca_pem=ca_pem, token=token, tls_server_name=tls_server_name)]
    )
    name, key = ("istio-kubeconfig", "config") if kind == "config" else (f"istio-remote-secret-{cluster}", cluster)
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {LABEL: "true"},
            "annotations": {ANNOTATION: cluster},
        },
        "stringData": {key: text},
    }


def token_secret_of(
    objects: Iterable[Mapping[str, Any]], account: str, namespace: str, secret_name: str = ""
) -> tuple[str, str]:
    """Authority and token (both text) of the service account's long-lived token Secret. Raises CannotCreate."""
    objects = list(objects)
    accounts = [each for each in objects if _is(each, "ServiceAccount", account, namespace)]
    if not accounts:
        raise CannotCreate(f"there is no service account {namespace}/{account}: create it, or name another")
    named = {str(entry.get("name", "")) for entry in accounts[0].get("secrets") or ()}
    found = [
        each
        for each in objects
        if each.get("kind") == "Secret"
        and each.get("type") == _TOKEN_SECRET
        and _metadata(each).get("namespace", "") == namespace
        and (
            (_metadata(each).get("annotations") or {}).get(_OF_ACCOUNT) == account
            or _metadata(each).get("name") in named
        )
    ]
    if secret_name:
        found = [each for each in found if _metadata(each).get("name") == secret_name]
    if not found:
        what = f"named {secret_name}" if secret_name else "of any name"
        raise CannotCreate(f"service account {namespace}/{account} has no token Secret {what}: create one")
    if len(found) > 1:
        names = ", ".join(sorted(str(_metadata(each).get("name")) for each in found))
        raise CannotCreate(
            f"service account {namespace}/{account} has several token Secrets ({names}): choose by --secret-name"
        )
    return _text(found[0], "ca.crt"), _text(found[0], "token")


def cluster_uid(objects: Iterable[Mapping[str, Any]]) -> str:
    """What a cluster is called where nobody names it: the uid of its kube-system namespace. Raises CannotCreate."""
    for each in objects:
        if (
            each.get("kind") == "Namespace"
            and _metadata(each).get("name") == "kube-system"
            and _metadata(each).get("uid")
        ):
            return str(_metadata(each)["uid"])
    raise CannotCreate("the cluster has no name: give it one with --name (there is no kube-system namespace to go by)")


def _text(secret: Mapping[str, Any], key: str) -> str:
    value = (secret.get("data") or {}).get(key)
    if value is None:
        raise CannotCreate(f"token Secret {_metadata(secret).get('name')} has no {key}: wait until it is filled in")
    try:
        return base64.b64decode(str(value), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise CannotCreate(f"token Secret {_metadata(secret).get('name')}: {key} is not base64 of text") from None


def _is(obj: Mapping[str, Any], kind: str, name: str, namespace: str) -> bool:
    metadata = _metadata(obj)
    return obj.get("kind") == kind and (metadata.get("name"), metadata.get("namespace")) == (name, namespace)


def _metadata(obj: Mapping[str, Any]) -> Mapping[str, Any]:
    return obj.get("metadata") or {}
