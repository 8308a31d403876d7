"""Whether clusters trust each other: roots, trust domains, and the bundles of webhooks."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from itertools import combinations

import yaml

from isthmus.assurance.analysis.across.whole_mesh import WholeMesh, in_system
from isthmus.assurance.analysis.items import Index, Object
from isthmus.assurance.analysis.webhooks import injectors
from isthmus.assurance.catalogue import mesh as codes
from isthmus.model.issues import Issue

_ROOTS, _ROOT_KEY = "istio-ca-root-cert", "root-cert.pem"
# Where an authority's own root is: plugged in, or made by the control plane itself.
_AUTHORITIES = (("cacerts", "root-cert.pem"), ("istio-ca-secret", "ca-cert.pem"))
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
Roots = frozenset[str]


def roots_in(pem: str) -> Roots:
    """Certificates as text without white space: alike is the same."""
    return frozenset("".join(body.split()) for body in _CERTIFICATE.findall(pem))


def roots_of(index: Index) -> Roots:
    """What a cluster's workloads are given to trust; without that, what its authority is."""
    found: Roots = frozenset()
    for config_map in index.each("ConfigMap"):
        if config_map.name == _ROOTS:
            found |= roots_in((config_map.value.get("data") or {}).get(_ROOT_KEY) or "")
    return found or authority_of(index)


def authority_of(index: Index) -> Roots:
    for name, key in _AUTHORITIES:
        secret = in_system(index, "Secret", name)
        if secret is not None:
            plain = (secret.value.get("stringData") or {}).get(key)
            try:
                return roots_in(plain or base64.b64decode((secret.value.get("data") or {}).get(key) or "").decode())
            except (binascii.Error, UnicodeDecodeError):
                continue
    return frozenset()


def mesh_config_of(index: Index) -> Object:
    """As the cluster's own ConfigMap has it."""
    config_map = in_system(index, "ConfigMap", "istio")
    try:
        document = yaml.safe_load((config_map.value.get("data") or {}).get("mesh") or "{}") if config_map else {}
    except yaml.YAMLError:
        return {}
    return document if isinstance(document, dict) else {}


def trust_domain_of(index: Index, mesh: WholeMesh) -> str:
    source = mesh.settings.mesh_config if index.cluster == mesh.config_cluster or index.is_remote else {}
    return str((mesh_config_of(index) or source).get("trustDomain") or source.get("trustDomain") or "cluster.local")


def roots(mesh: WholeMesh) -> Iterator[Issue]:
    """Of one trust domain, every two clusters need a root in common."""
    extra: Roots = frozenset()
    for authority in mesh.settings.mesh_config.get("caCertificates") or []:
        extra |= roots_in(str(authority.get("pem") or ""))
    known = [(index, roots_of(index)) for index in mesh.indexes]
    for (one, first), (other, second) in combinations([pair for pair in known if pair[1]], 2):
        if trust_domain_of(one, mesh) != trust_domain_of(other, mesh):
            continue
        if not (first | extra) & (second | extra):
            yield mesh.finding(
                codes.ROOTS_DIFFER, "Cluster", other.cluster,
                f"has no root certificate in common with {one.cluster}, and the same trust domain, {trust_domain_of(one, mesh)}",
            )  # fmt: skip


def roots_in_namespaces(mesh: WholeMesh) -> Iterator[Issue]:
    for index in mesh.indexes:
        own = in_system(index, "ConfigMap", _ROOTS)
        expected = roots_in((own.value.get("data") or {}).get(_ROOT_KEY) or "") if own else authority_of(index)
        for config_map in index.each("ConfigMap"):
            found = roots_in((config_map.value.get("data") or {}).get(_ROOT_KEY) or "")
            if config_map.name == _ROOTS and expected and found and not found & expected:
                what = f"has another root than namespace {mesh.settings.root_namespace}"
                yield config_map.finding(codes.ROOTS_IN_NAMESPACES, what, path="data")


def trust_domains(mesh: WholeMesh) -> Iterator[Issue]:
    named = {index.cluster: trust_domain_of(index, mesh) for index in mesh.primaries}
    for one, other in combinations(mesh.primaries, 2):
        first, second = named[one.cluster], named[other.cluster]
        if first == second:
            continue
        for index, foreign in ((one, second), (other, first)):
            config = mesh_config_of(index) or (mesh.settings.mesh_config if index is mesh.config else {})
            bundles = {
                domain
                for entry in config.get("caCertificates") or []
                for domain in (entry or {}).get("trustDomains") or []
            }
            if foreign not in {*(config.get("trustDomainAliases") or []), *bundles}:
                yield mesh.finding(
                    codes.TRUST_DOMAINS_DIFFER, "Cluster", index.cluster,
                    f"is of trust domain {named[index.cluster]}, and does not know {foreign}",
                )  # fmt: skip


def webhook_bundles(mesh: WholeMesh) -> Iterator[Issue]:
    """A webhook's caBundle against the roots of the control planes that are looked at."""
    authorities: Roots = frozenset()
    for index in mesh.indexes:
        authorities |= authority_of(index) | roots_of(index)
    for index in mesh.indexes if authorities else ():
        for item, webhook in injectors(index):
            bundle = (webhook.get("clientConfig") or {}).get("caBundle")
            if not isinstance(bundle, str) or not bundle:
                continue
            try:
                trusted = roots_in(base64.b64decode(bundle).decode())
            except (binascii.Error, UnicodeDecodeError):
                trusted = frozenset()
            if not trusted & authorities:
                what = f"webhook {webhook.get('name')} trusts an authority that no control plane here has"
                yield item.finding(codes.WRONG_CA_BUNDLE, what)
