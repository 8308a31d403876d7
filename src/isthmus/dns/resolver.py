"""What an application's resolver makes of a name before it asks anybody: the full names that it tries, in order (resolv.conf(5)).

A name with fewer dots than `ndots` is tried with each search domain first, and as it is at last; one with as many the other way round. A name
that ends with a dot is complete.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

NDOTS_OF_PODS = 5
"""What Kubernetes writes into every Pod's resolv.conf that does not say otherwise."""


@dataclass(frozen=True, slots=True)
class Resolver:
    """The part of a resolv.conf that decides about names."""

    search: tuple[str, ...]
    ndots: int

    @staticmethod
    def of_pods(namespace: str, dns_domain: str) -> Resolver:
        """As Kubernetes sets it up in a namespace."""
        return Resolver((f"{namespace}.svc.{dns_domain}", f"svc.{dns_domain}", dns_domain), NDOTS_OF_PODS)


@dataclass(frozen=True, slots=True)
class Tried:
    """A full name, without its last dot, and the reason why the resolver comes to ask for it."""

    name: str
    why: str


def tried(name: str, resolver: Resolver) -> Iterator[Tried]:
    """Until one of them has an address, in this order."""
    plain = name.rstrip(".").lower()
    if name.endswith("."):
        yield Tried(plain, "it ends with a dot: no search domain is added")
        return
    dots = plain.count(".")
    few = dots < resolver.ndots
    as_it_is = Tried(
        plain,
        f"as it is: its {'1 dot is' if dots == 1 else f'{dots} dots are'} {'fewer' if few else 'no fewer'} than ndots {resolver.ndots}",
    )
    if not few:
        yield as_it_is
    for domain in resolver.search:
        yield Tried(f"{plain}.{domain.rstrip('.').lower()}", f"with search domain {domain}")
    if few:
        yield as_it_is
