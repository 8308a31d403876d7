"""One CreateCertificate call, decided from a file alone: the registration authority itself, with API servers and a clock that are written down."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from isthmus.model.identity import TrustDomain
from isthmus.model.names import ClusterId
from isthmus.trust import x509
from isthmus.trust.authentication import Authenticator, Outside, ServiceAccount, account_of
from isthmus.trust.authority import CertificateAuthority
from isthmus.trust.impersonation import NodeAgents, NodePod
from isthmus.trust.issuance import DEFAULT_LIFETIME, LIFETIME_MAX, Lifetimes
from isthmus.trust.oidc import OutsideIssuer, account_of_token
from isthmus.trust.registration import Asked, Refused, RegistrationAuthority

Object = dict[str, Any]

_ROOT_LIFETIME = timedelta(days=3650)


def explain(config: Mapping[str, Any], request: Mapping[str, Any], now: datetime) -> Object:
    """`{code, message, certChain}`: what the certificate service described by `config` answers. Raises ValueError for a bad question.

    `why` is what the service would have logged.
    """
    domain = TrustDomain.parse(str(config.get("trustDomain", "cluster.local")))
    own = ClusterId(str(config.get("localCluster", "Kubernetes")))
    clusters: Mapping[str, Any] = config.get("clusters") or {}

    async def review(token: str, cluster: ClusterId) -> ServiceAccount | None:
        return account_of((clusters[cluster].get("tokens") or {}).get(token) or {})

    aliases = {str(alias): ClusterId(str(name)) for alias, name in (config.get("clusterAliases") or {}).items()}
    authority = _authority(domain, config.get("intermediate") or {}, now)
    registration = RegistrationAuthority(
        domain,
        lambda: authority,
        Authenticator(domain, own, review, lambda: 0.0, aliases, _outside(config.get("oidc"), now)),
        lambda: now,
        lifetimes=Lifetimes(
            default=_seconds(config, "defaultTTLSeconds", DEFAULT_LIFETIME),
            longest=_seconds(config, "maxTTLSeconds", LIFETIME_MAX),
        ),
        node_agents=NodeAgents(
            _agents(str((config.get("env") or {}).get("CA_TRUSTED_NODE_ACCOUNTS", ""))),
            lambda cluster: _pods(clusters.get(cluster) or {}),
        ),
    )
    try:
        issued = asyncio.run(
            registration.issue(
                _metadata(request.get("metadata") or {}),
                str(request.get("peerCertificate") or ""),
                Asked(
                    str(request.get("csr", "")),
                    int(request.get("validitySeconds") or 0),
                    str((request.get("requestMetadata") or {}).get("ImpersonatedIdentity", "")),
                ),
            )
        )
    except Refused as refused:
        return {"code": refused.code, "message": refused.told, "why": refused.why, "certChain": []}
    return {"code": "OK", "message": "", "identity": str(issued.identity), "certChain": issued.chain}


def _outside(said: Mapping[str, Any] | None, now: datetime) -> Outside | None:
    """An issuer beyond the clusters, whose keys are written down."""
    if not said:
        return None
    keys = said.get("jwks") or ""
    rule = OutsideIssuer(
        issuer=str(said.get("issuer", "")),
        audiences=tuple(map(str, said.get("audiences") or ())),
        jwks=keys if isinstance(keys, str) else json.dumps(keys),
    )
    return lambda token: account_of_token(token, rule, rule.jwks, now.timestamp())


def _authority(domain: TrustDomain, said: Mapping[str, Any], now: datetime) -> CertificateAuthority:
    """A new root, and as many intermediates below it as are asked for; the lowest ends as it is said to."""
    issuer = x509.new_root(domain, now, _ROOT_LIFETIME)
    root = x509.certificate_pem(issuer.certificate)
    count = int(said.get("count") or 0)
    for index in range(count):
        lifetime = _ROOT_LIFETIME
        if index == count - 1 and said.get("remainingSeconds") is not None:
            lifetime = timedelta(seconds=float(said["remainingSeconds"]))
        issuer = x509.new_intermediate(issuer, str(index), now, lifetime, below=count - 1 - index)
    return CertificateAuthority(issuer, root)


def _metadata(said: Mapping[str, Any]) -> dict[str, str]:
    """As gRPC has it; of several values the first."""
    found = {}
    for name, value in said.items():
        values = value if isinstance(value, list) else [value]
        if values:
            found[str(name).lower()] = str(values[0])
    return found


def _seconds(config: Mapping[str, Any], name: str, default: timedelta) -> timedelta:
    return timedelta(seconds=float(config[name])) if config.get(name) is not None else default


def _agents(text: str) -> frozenset[tuple[str, str]]:
    pairs = (entry.strip().partition("/") for entry in text.split(",") if entry.strip())
    return frozenset((namespace, account) for namespace, _, account in pairs)


def _pods(cluster: Mapping[str, Any]) -> Iterator[NodePod]:
    for pod in cluster.get("pods") or ():
        yield NodePod(
            namespace=str(pod.get("namespace", "")),
            name=str(pod.get("name", "")),
            uid=str(pod.get("uid", "")),
            service_account=str(pod.get("serviceAccount", "")),
            node=str(pod.get("node", "")),
        )
