"""Where certificates and tokens are found: in a cluster's objects, in running control planes, and in the Envoys of a mesh on this machine.

Keys are never read: what is taken from a Secret are the entries that hold certificates, and of a kubeconfig the day on which it ends.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from isthmus.cli.contexts import Context
from isthmus.ingest.peer_bundles import PREFIX
from isthmus.installation.rights import ROOTS_CONFIG_MAP
from isthmus.localruntime.mesh_client import MeshClient, MeshRefused
from isthmus.trust.expiry import Horizon, Kind, of_certificates, of_revocations, unreadable
from isthmus.trust.rotation import PLUGGED_IN, PREPARED, PREVIOUS, SELF_SIGNED

Object = dict[str, Any]

_CERTIFICATES = ("ca-cert.pem", "cert-chain.pem", "root-cert.pem", "tls.crt", "ca.crt")
"""The entries with certificates: of authorities' Secrets in Istio's layout, and of TLS Secrets."""
_REVOCATIONS = "ca-crl.pem"
_AUTHORITIES = (PLUGGED_IN, SELF_SIGNED, PREPARED, PREVIOUS)
_TLS_SECRET = "kubernetes.io/tls"
_MESH_CONFIG_MAP = "istio"


async def in_cluster(context: Context, namespace: str) -> list[Horizon]:
    """Of the objects in the mesh's namespace. Raises KubernetesError."""
    from isthmus.kubernetes.client import ApiClient
    from isthmus.kubernetes.resources import CONFIG_MAPS, SECRETS

    async with ApiClient(context.address) as client:
        secrets = (await client.list_objects(SECRETS, namespace))["items"]
        config_maps = (await client.list_objects(CONFIG_MAPS, namespace))["items"]
    found = [horizon for secret in secrets for horizon in of_secret(context.name, secret)]
    return [*found, *(horizon for each in config_maps for horizon in of_config_map(context.name, each))]


def of_secret(cluster: str, secret: Object) -> Iterator[Horizon]:
    """Of an authority, a server's certificate, or a remote secret; other Secrets are nobody's business here."""
    from isthmus.kubernetes.remote_secret import LABEL

    metadata = secret["metadata"]
    where = f"Secret {metadata['namespace']}/{metadata['name']}"
    if (metadata.get("labels") or {}).get(LABEL) == "true":
        yield from _of_remote_secret(cluster, where, secret)
        return
    if metadata["name"] not in _AUTHORITIES and secret.get("type") != _TLS_SECRET:
        return
    for entry, value in (secret.get("data") or {}).items():
        if entry not in (*_CERTIFICATES, _REVOCATIONS) or not value:
            continue
        try:
            pem = base64.b64decode(value).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            yield unreadable(cluster, f"{where} {entry}", str(error))
            continue
        read = of_revocations if entry == _REVOCATIONS else of_certificates
        yield from read(cluster, f"{where} {entry}", pem)


def of_config_map(cluster: str, config_map: Object) -> Iterator[Horizon]:
    """Of the roots that the cluster's Pods are given, and of imported bundles."""
    metadata = config_map["metadata"]
    for key, pem in (config_map.get("data") or {}).items():
        if metadata["name"] == ROOTS_CONFIG_MAP or (metadata["name"] == _MESH_CONFIG_MAP and key.startswith(PREFIX)):
            yield from of_certificates(cluster, f"ConfigMap {metadata['namespace']}/{metadata['name']} {key}", pem)


def in_control_planes(mesh: MeshClient, clusters: Iterable[Object]) -> Iterator[Horizon]:
    """What control planes sign and serve with now, which may be older than what is in their Secrets."""
    for cluster in clusters:
        for pod in [pod["name"] for pod in cluster["pods"] if pod["labels"].get("app") == "istiod"]:
            where = f"control plane {pod}"
            try:
                held = mesh.control_plane(cluster["id"], "debug/trustz", pod)
            except MeshRefused as refusal:
                yield unreadable(cluster["id"], where, str(refusal))
                continue
            for use, pem in held.items():
                yield from of_certificates(cluster["id"], f"{where}, {use}", pem)


def in_proxies(mesh: MeshClient, clusters: Iterable[Object]) -> Iterator[Horizon]:
    """Of every Envoy its certificate; the authorities it trusts once for each cluster, with the number of Envoys that have them."""
    from isthmus.envoy.tls import NOBODY

    holders: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for cluster in clusters:
        for pod in cluster["pods"]:
            try:
                page = mesh.envoy(cluster["id"], pod["namespace"], pod["name"], _SECRETS_PAGE)
            except MeshRefused:
                continue  # It has no Envoy, or that is not up yet: then it has no certificate either.
            for entry in json.loads(page).get("configs") or ():
                secret = entry.get("secret") or {}
                chain = _text(secret, "tls_certificate", "certificate_chain")
                if chain:
                    yield from of_certificates(cluster["id"], f"Pod {pod['namespace']}/{pod['name']}", _leaf(chain))
                # The same authority is in several bundles of a proxy; what stands where nobody is believed concerns nobody.
                for domain, pem in _bundles(secret):
                    if domain != str(NOBODY):
                        holders[cluster["id"], domain, pem].add(f"{pod['namespace']}/{pod['name']}")
    for (cluster_id, domain, pem), those in holders.items():
        proxies = "1 proxy" if len(those) == 1 else f"{len(those)} proxies"
        yield from of_certificates(cluster_id, f"bundle of {domain} in {proxies}", pem)


_SECRETS_PAGE = "config_dump?resource=dynamic_active_secrets"


def _of_remote_secret(cluster: str, where: str, secret: Object) -> Iterator[Horizon]:
    from isthmus.kubernetes.kubeconfig import BadKubeconfig
    from isthmus.kubernetes.linking import kubeconfig_in
    from isthmus.kubernetes.token_claims import expiry_of

    for remote in secret.get("data") or {}:
        try:
            address = kubeconfig_in(secret, remote)
        except BadKubeconfig as error:
            yield unreadable(cluster, where, str(error))
            continue
        if address.client_certificate_pem:
            yield from of_certificates(cluster, where, address.client_certificate_pem, leaf=Kind.CLIENT)
        if address.token:
            name = f"token for cluster {remote}"
            yield Horizon(cluster=cluster, kind=Kind.TOKEN, name=name, where=where, ends=expiry_of(address.token))


def _bundles(secret: Object) -> Iterator[tuple[str, str]]:
    """Each authority of each trust domain, as Envoy's SPIFFE validator has them."""
    text = _text(secret, "validation_context", "custom_validator_config", "typed_config", "trust_bundles")
    for domain, bundle in (json.loads(text)["trust_domains"] if text else {}).items():
        for key in bundle["keys"]:
            for der in key["x5c"]:
                yield domain, f"-----BEGIN CERTIFICATE-----\n{der}\n-----END CERTIFICATE-----\n"


def _text(secret: Object, *path: str) -> str:
    for part in path:
        secret = secret.get(part) or {}
    return str(secret.get("inline_string") or "")


def _leaf(chain: str) -> str:
    """The workload's own: the authorities after it are the control plane's, and told there."""
    end = "-----END CERTIFICATE-----\n"
    return chain.partition(end)[0] + end
