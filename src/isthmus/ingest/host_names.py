"""Host names of network gateways: which there are, and what becomes of them.

Load balancers of some clouds have a name instead of an address. Who asks name servers is not here: what they said comes in as a value, and
a gateway of that name becomes one gateway for each address.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from isthmus.model.addresses import is_ip
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.topology import NetworkGateway, ResolvedName
from isthmus.model.values import dataclass


@dataclass(frozen=True, slots=True)
class Resolved:
    """Gateways at IP addresses, the names that somebody has to ask about, and what is told of those without an answer."""

    gateways: frozenset[NetworkGateway]
    names: frozenset[str]
    issues: tuple[Issue, ...]


def resolved(gateways: Iterable[NetworkGateway], known: Mapping[str, ResolvedName] | None) -> Resolved:
    """`known` is None where nobody asks name servers."""
    at_addresses: set[NetworkGateway] = set()
    names: set[str] = set()
    issues: list[Issue] = []
    for gateway in gateways:
        if is_ip(gateway.address):
            at_addresses.add(gateway)
            continue
        name = gateway.address.lower().removesuffix(".")
        names.add(name)
        answer = None if known is None else known.get(name, ResolvedName(addresses=(), error="not asked yet"))
        issues += _issues(gateway, name, answer)
        at_addresses |= {replace(gateway, address=address) for address in (answer.addresses if answer else ())}
    return Resolved(frozenset(at_addresses), frozenset(names), tuple(issues))


def _issues(gateway: NetworkGateway, name: str, answer: ResolvedName | None) -> Iterator[Issue]:
    where = f" in cluster {gateway.cluster}" if gateway.cluster else ""
    gateway_of = f"the gateway{where} has the host name {name}"
    if answer is None:
        what = f"{gateway_of}, which is not resolved here: only a control plane asks name servers, if RESOLVE_HOSTNAME_GATEWAYS is true"
        fix = "read what a running control plane serves, or give the gateway an IP address, for example by spec.externalIPs"
    elif answer.error and answer.addresses:
        what = f"{gateway_of}, for which there is no answer now ({answer.error}): {', '.join(answer.addresses)} of before stays"
        fix = "see that the control plane's name servers know the name; it is asked for again by itself"
    elif answer.error:
        what = f"{gateway_of}, which has no address: {answer.error}"
        fix = "see that the control plane's name servers know the name; it is asked for again by itself"
    else:
        return
    subject = Subject(gateway.cluster, "Network", "", gateway.network)
    yield Issue(subject=subject, code="ISM0105", severity=Severity.WARNING, what=what, fix=fix)
