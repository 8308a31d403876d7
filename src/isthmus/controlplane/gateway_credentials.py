"""Credentials of gateways, and of callers of servers beyond the mesh: private keys from Secrets, put into a proxy's resources at the last moment.

A proxy is given the Secrets that its own configuration names, and those of its own namespace alone; another namespace's only where a Gateway of
Gateway API refers to it and a ReferenceGrant there allows it (which was judged when the Gateway was read). Its namespace was proved by its
credentials. No key enters the snapshot, a view or a page.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from isthmus.api.core import Secret
from isthmus.envoy.requested_secrets import RequestedSecret, is_of_files
from isthmus.envoy.resources import SECRET, Resource, ResourceSet
from isthmus.envoy.secrets import authorities_secret, certificate_secret
from isthmus.ingest.gateway_api.certificates import (
    AUTHORITY_KEYS,
    CERTIFICATE_KEYS,
    PRIVATE_KEY_KEYS,
    REVOCATION_KEYS,
    part_of,
    problem_with_authorities,
    problem_with_pair,
)
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId

Secrets = Mapping[tuple[str, str], object]

_COMPANION = "-cacert"


class GatewayCredentials:
    """`secrets` gives the config cluster's Secrets as they are now."""

    def __init__(self, secrets: Callable[[], Secrets]) -> None:
        self._secrets = secrets
        self._encoded: dict[tuple[str, int], tuple[Secret, Resource]] = {}
        self._problems: dict[tuple[str, str], str] = {}

    def filled(self, resources: ResourceSet, namespace: str) -> ResourceSet:
        """With Secrets in the place of their stand-ins. What is not there, or is no certificate, is left out: the proxy is told so."""
        asked = resources.of_type(SECRET)
        if not asked:
            return resources
        found = {
            name: secret
            for name, said in asked.items()
            if (secret := said if is_of_files(name) else self._resource(name, namespace)) is not None
        }
        return ResourceSet(MappingProxyType({**resources.by_type, SECRET: MappingProxyType(found)}))

    def take_problems(self, cluster: ClusterId) -> list[Issue]:
        """What is wrong with the Secrets that were asked for since the last call."""
        found, self._problems = self._problems, {}
        return [
            Issue(
                subject=Subject(cluster, "Secret", namespace, name),
                code="ISM0408",
                severity=Severity.ERROR,
                what=f"a proxy is to use it, and cannot: {problem}",
                fix="create it in the proxy's namespace, with tls.crt and tls.key (ca.crt for the other end's authorities)",
            )
            for (namespace, name), problem in sorted(found.items())
        ]

    def _resource(self, name: str, namespace: str) -> Resource | None:
        asked = RequestedSecret.parse(name)
        secrets, own = self._secrets(), asked.namespace or namespace
        found = secrets.get((own, asked.name))
        if asked.authorities:
            found = secrets.get((own, asked.name + _COMPANION), found)
        secret = found if isinstance(found, Secret) else None
        known = self._encoded.get((name, id(secret)))
        if known is not None and known[0] is secret:
            return known[1]
        problem = (problem_with_authorities if asked.authorities else problem_with_pair)(secret)
        if problem or secret is None:
            self._problems[own, asked.name] = problem
            return None
        made = _encoded(name, secret, authorities=asked.authorities)
        self._encoded[name, id(secret)] = (secret, made)
        self._forget(secrets)
        return made

    def _forget(self, secrets: Secrets) -> None:
        """Keys of Secrets that are there no longer do not stay in memory."""
        current = {id(secret) for secret in secrets.values()}
        self._encoded = {key: value for key, value in self._encoded.items() if key[1] in current}


def _encoded(name: str, secret: Secret, *, authorities: bool) -> Resource:
    if authorities:
        return authorities_secret(name, part_of(secret, AUTHORITY_KEYS), part_of(secret, REVOCATION_KEYS))
    return certificate_secret(name, part_of(secret, CERTIFICATE_KEYS), part_of(secret, PRIVATE_KEY_KEYS))
