"""BackendTLSPolicies: TLS that gateways start with the backends that routes lead to.

A policy that cannot be done as it is written is not left out: its backends would be called in plaintext, which nobody asked for. They are
given a name that no certificate has, and requests fail until the policy is mended. Of two policies about one target the older one counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from isthmus.api import gateway_api as api
from isthmus.ingest.gateway_api.authorities import authorities_in
from isthmus.ingest.gateway_api.objects import Objects
from isthmus.ingest.gateway_api.references import NOWHERE
from isthmus.model.attachments import ACCEPTED, RESOLVED, Condition, Parent, RouteAttachments, RouteParent
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId, Hostname, Namespace
from isthmus.model.origins import Origin
from isthmus.model.traffic import DestinationRule, TlsOrigination, TrafficPolicy
from isthmus.model.values import dataclass

KIND = "BackendTLSPolicy"
_ISTIO = "networking.istio.io"


@dataclass(frozen=True, slots=True)
class _Target:
    """Names that callers have for what a policy is about, and its ports by name."""

    hosts: tuple[Hostname, ...]
    ports: Mapping[str, int]


def backend_tls_of(objects: Objects) -> tuple[list[DestinationRule], list[RouteAttachments]]:
    """A rule for each host of a namespace, and what the policies are told."""
    tls: dict[tuple[str, Hostname], dict[int, TlsOrigination]] = defaultdict(dict)
    first: dict[tuple[str, Hostname], api.BackendTLSPolicy] = {}
    claimed: set[tuple[str, api.PolicyTarget]] = set()
    told = []
    for policy in objects.backend_tls_policies:
        namespace = policy.metadata.namespace
        origination, accepted, resolved = _validation(policy, objects)
        parents = []
        for reference in policy.spec.target_refs:
            target = _target(reference, namespace, objects)
            verdict = accepted
            if target is None or (reference.section_name and reference.section_name not in target.ports):
                verdict = _refused("TargetNotFound", f"there is no {_written(reference, namespace)}")
            elif (namespace, reference) in claimed:
                verdict = _refused("Conflicted", f"an older policy is about {_written(reference, namespace)}")
            else:
                claimed.add((namespace, reference))
                for host in target.hosts:
                    tls[namespace, host].setdefault(target.ports.get(reference.section_name, 0), origination)
                    first.setdefault((namespace, host), policy)
            parent = Parent(
                group=reference.group,
                kind=reference.kind,
                namespace="",
                name=reference.name,
                section=reference.section_name,
                port=0,
            )
            parents.append(RouteParent(parent=parent, accepted=verdict, references=resolved))
        told.append(
            RouteAttachments(
                kind=KIND,
                namespace=Namespace(namespace),
                name=policy.metadata.name,
                parents=tuple(parents),
                backends=(),
            )
        )
    return [_rule(host, found, first[namespace, host]) for (namespace, host), found in sorted(tls.items())], told


def issues_of(told: list[RouteAttachments], cluster: ClusterId) -> Iterator[Issue]:
    """The same for those who do not look at a policy's status."""
    for policy in told:
        for index, parent in enumerate(policy.parents):
            wrong = next((each for each in (parent.references, parent.accepted) if not each.holds), None)
            if wrong is not None:
                yield Issue(
                    subject=Subject(cluster, KIND, policy.namespace, policy.name),
                    code="ISM0607",
                    severity=Severity.ERROR,
                    what=wrong.message,
                    fix="mend the reference; requests to a backend whose authorities are not known fail",
                    field=f"spec.targetRefs[{index}]" if wrong is parent.accepted else "spec.validation",
                )


def _rule(host: Hostname, found: Mapping[int, TlsOrigination], policy: api.BackendTLSPolicy) -> DestinationRule:
    namespace, name = Namespace(policy.metadata.namespace), policy.metadata.name
    return DestinationRule(
        created=policy.metadata.creation_timestamp,
        namespace=namespace,
        name=name,
        host=host,
        policy=TrafficPolicy(),
        port_policies=(),
        subsets=(),
        export_to=("*",),
        made_from=Origin(KIND, namespace, name),
        backend_tls=tuple(sorted(found.items())),
    )


def _target(reference: api.PolicyTarget, namespace: str, objects: Objects) -> _Target | None:
    key = (namespace, reference.name)
    if (reference.group, reference.kind) == ("", "Service") and key in objects.services:
        host = Hostname(f"{reference.name}.{namespace}.svc.{objects.settings.dns_domain}".lower())
        return _Target((host,), {port.name: port.port for port in objects.services[key].spec.ports})
    if (reference.group, reference.kind) == (_ISTIO, "ServiceEntry") and key in objects.service_entries:
        spec = objects.service_entries[key].spec
        hosts = tuple(Hostname(host.lower()) for host in spec.hosts)
        return _Target(hosts, {port.name: port.number for port in spec.ports})
    return None


def _validation(policy: api.BackendTLSPolicy, objects: Objects) -> tuple[TlsOrigination, Condition, Condition]:
    """With the conditions Accepted and ResolvedRefs, as far as it decides them."""
    said = policy.spec.validation
    names = tuple(each.uri or each.hostname for each in said.subject_alt_names) or (said.hostname,)
    if not said.ca_certificate_refs and said.well_known_certificates == "System":
        return TlsOrigination(mutual=False, sni=said.hostname, names=names), ACCEPTED, RESOLVED
    nobody = TlsOrigination(mutual=False, sni=said.hostname, names=(NOWHERE,))
    if not said.ca_certificate_refs:
        wrong = f"well-known authorities {said.well_known_certificates!r} are not known: use System"
        return nobody, _refused("Invalid", wrong), RESOLVED
    texts = []
    for reference in said.ca_certificate_refs:
        reason, text = authorities_in(reference, policy.metadata.namespace, objects)
        if reason:
            resolved = Condition("ResolvedRefs", False, reason, text)
            return nobody, _refused("NoValidCACertificate", text), resolved
        texts.append(text)
    if not all(texts):
        return nobody, ACCEPTED, RESOLVED
    authorities = "".join(f"{text.strip()}\n" for text in texts)
    found = TlsOrigination(mutual=False, sni=said.hostname, names=names, authorities=authorities)
    return found, ACCEPTED, RESOLVED


def _refused(reason: str, message: str) -> Condition:
    return Condition("Accepted", False, reason, message)


def _written(reference: api.PolicyTarget, namespace: str) -> str:
    port = f" with a port {reference.section_name}" if reference.section_name else ""
    return f"{reference.kind} {namespace}/{reference.name}{port}"
