"""Stand-ins for network gateways: where requests may go is decided without the addresses of gateways, which are put in afterwards.

How many gateways a network has, in which clusters and of which family of addresses, decides what goes where; which addresses these are does not.
So a gateway that moves costs putting in its new address, and no decision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from isthmus.discovery.families import family_of
from isthmus.model.topology import NetworkGateway

Doors = Mapping[NetworkGateway, NetworkGateway]
"""Gateways by their stand-ins."""

NO_DOORS: Doors = {}

_NOBODYS = {4: "0.0.{}.{}", 6: "100::{:x}:{:x}"}
"""Addresses of `0.0.0.0/8` and `100::/64`, at which nobody is (RFC 6890)."""


def stand_ins(gateways: Sequence[NetworkGateway]) -> tuple[NetworkGateway, ...]:
    """One for each gateway of a network, which differs from it in its address alone."""
    return tuple(_stand_in(gateway, number) for number, gateway in enumerate(gateways))


def _stand_in(gateway: NetworkGateway, number: int) -> NetworkGateway:
    """What is no IP address is of no use to anybody, and stays."""
    address = _NOBODYS.get(family_of(gateway.address))
    return replace(gateway, address=address.format(*divmod(number, 256))) if address else gateway
