"""Node agents ask for certificates of the workloads beside them (Istio calls it impersonation). Pure rules.

Allowed are the service accounts that the operator names, and they get identities of Pods on their own node and in their own cluster alone. The
agent's own node is known by the Pod that its token is bound to, never by what it says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from isthmus.model.identity import SpiffeId
from isthmus.model.names import ClusterId
from isthmus.trust.authentication import Caller


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePod:
    """What is known of a Pod here."""

    namespace: str
    name: str
    uid: str
    service_account: str
    node: str


@dataclass(frozen=True, slots=True)
class NodeAgents:
    """`trusted` are namespace and service account of the agents; `pods` are those of a cluster."""

    trusted: frozenset[tuple[str, str]]
    pods: Callable[[ClusterId], Iterable[NodePod]]


class MayNotImpersonate(Exception):
    """The reason is for the log; the caller is told only that it failed."""


def impersonated(caller: Caller, wanted: str, agents: NodeAgents) -> SpiffeId:
    """The identity that the caller gets in place of its own. Raises MayNotImpersonate."""
    if caller.cluster is None or caller.identity.service_account not in agents.trusted:
        raise MayNotImpersonate(f"{caller.identity} is no trusted node agent")
    try:
        identity = SpiffeId.parse(wanted)
    except ValueError as error:
        raise MayNotImpersonate(f"the identity asked for is none: {error}") from None
    account = identity.service_account
    if identity.trust_domain != caller.identity.trust_domain or account is None:
        raise MayNotImpersonate(f"{identity} is no service account of this trust domain")
    pods = list(agents.pods(caller.cluster))
    own = next((pod for pod in pods if _is(pod, caller)), None)
    if own is None or not own.node:
        raise MayNotImpersonate(f"the Pod of {caller.identity} is not known in cluster {caller.cluster}")
    if not any(pod.node == own.node and (pod.namespace, pod.service_account) == account for pod in pods):
        raise MayNotImpersonate(f"node {own.node} has no Pod of {identity}")
    return identity


def _is(pod: NodePod, caller: Caller) -> bool:
    account = caller.identity.service_account
    return (pod.name, pod.uid) == caller.pod and (pod.namespace, pod.service_account) == account
