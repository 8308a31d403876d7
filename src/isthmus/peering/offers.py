"""Offers as resources: one for each exported service, one for the gateways, one for the identities that call. And back, believing nothing.

What a peer says about anything but its own trust domain, or in words that mean nothing here, is refused with a reason; the rest counts.
"""

from __future__ import annotations

import ipaddress

import msgspec

from isthmus.model.federation import PLACE_WEIGHT_MAX, Identities, OfferedService, Offers, Place, is_label
from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.model.names import ClusterId, Namespace, NetworkId
from isthmus.model.services import Protocol, ServicePort
from isthmus.model.topology import Locality, NetworkGateway
from isthmus.peering.messages import Resources, decoded, plainly

_GATEWAYS, _IDENTITIES, _SERVICE = "gateways", "identities", "service/"
_PLACES_MAX, _PORTS_MAX, _GATEWAYS_MAX, _IDENTITIES_MAX = 1000, 100, 256, 10_000
_CHARACTERS_MAX = 253


class _Port(msgspec.Struct, frozen=True):
    name: str
    number: int
    protocol: str


class _Place(msgspec.Struct, frozen=True):
    network: str
    identity: str
    weight: int
    locality: str = ""


class _Service(msgspec.Struct, frozen=True):
    ports: tuple[_Port, ...]
    places: tuple[_Place, ...] = ()


class _Gateway(msgspec.Struct, frozen=True):
    network: str
    address: str
    port: int


def resources_of(offers: Offers) -> Resources:
    """Equal offers give equal bytes."""
    found = {f"{_SERVICE}{each.namespace}/{each.name}": msgspec.json.encode(_service(each)) for each in offers.services}
    gateways = tuple(_Gateway(each.network, each.address, each.port) for each in offers.gateways)
    found[_GATEWAYS] = msgspec.json.encode(gateways)
    found[_IDENTITIES] = msgspec.json.encode(tuple(map(str, offers.identities)))
    return found


def _service(offer: OfferedService) -> _Service:
    return _Service(
        ports=tuple(_Port(port.name, port.number, port.protocol.value) for port in offer.ports),
        places=tuple(
            _Place(place.network, str(place.identity), place.weight, str(place.locality)) for place in offer.places
        ),
    )


def offers_of(resources: Resources, trust_domain: TrustDomain) -> tuple[Offers, dict[str, str]]:
    """What the peer of this trust domain offers; and by name what cannot be used, with the reason."""
    services: list[OfferedService] = []
    gateways: tuple[NetworkGateway, ...] = ()
    identities: tuple[Identities, ...] = ()
    refused: dict[str, str] = {}
    for name, body in sorted(resources.items()):
        try:
            if name == _GATEWAYS:
                gateways = _gateways(body)
            elif name == _IDENTITIES:
                identities = _identities(body)
            elif name.startswith(_SERVICE):
                services.append(_offered(name.removeprefix(_SERVICE), body, trust_domain))
        except ValueError as error:
            refused[name] = str(error)
    return Offers(services=tuple(sorted(services)), gateways=gateways, identities=identities), plainly(refused)


def _offered(name: str, body: bytes, trust_domain: TrustDomain) -> OfferedService:
    namespace, _, service = name.partition("/")
    if not is_label(namespace) or not is_label(service):
        raise ValueError(f"{name!r} is not NAMESPACE/NAME of a service")
    said: _Service = decoded(body, _Service)
    _bounded(said.ports, _PORTS_MAX, "ports")
    _bounded(said.places, _PLACES_MAX, "places")
    ports = tuple(sorted(map(_port, said.ports)))
    for of_port in ({port.number for port in ports}, {port.name for port in ports}):
        if len(of_port) < len(ports):
            raise ValueError("two of its ports have one number, or one name")
    places = {_place(place, trust_domain) for place in said.places}
    return OfferedService(namespace=Namespace(namespace), name=service, ports=ports, places=tuple(sorted(places)))


def _port(said: _Port) -> ServicePort:
    """A protocol that is not known here is bytes."""
    known = {protocol.value for protocol in Protocol}
    protocol = Protocol(said.protocol) if said.protocol in known else Protocol.TCP
    return ServicePort(number=_port_number(said.number), name=_word(said.name, "a port"), protocol=protocol)


def _place(said: _Place, trust_domain: TrustDomain) -> Place:
    identity = SpiffeId.parse(said.identity)
    if identity.trust_domain != trust_domain or not identity.path:
        raise ValueError(f"{identity} is not an identity of the peer's own trust domain, {trust_domain}")
    if not 1 <= said.weight <= PLACE_WEIGHT_MAX:
        raise ValueError(f"a weight is from 1 to {PLACE_WEIGHT_MAX}, not {said.weight}")
    return Place(
        network=_network(said.network),
        locality=Locality.parse(_word(said.locality, "a locality")),
        identity=identity,
        weight=said.weight,
    )


def _gateways(body: bytes) -> tuple[NetworkGateway, ...]:
    said: tuple[_Gateway, ...] = decoded(body, tuple[_Gateway, ...])
    _bounded(said, _GATEWAYS_MAX, "gateways")
    return tuple(
        sorted(
            {
                NetworkGateway(
                    address=_address(each.address),
                    port=_port_number(each.port),
                    network=_network(each.network),
                    cluster=ClusterId(""),
                )
                for each in said
            }
        )
    )


def _identities(body: bytes) -> tuple[Identities, ...]:
    said: tuple[str, ...] = decoded(body, tuple[str, ...])
    _bounded(said, _IDENTITIES_MAX, "identities")
    return tuple(sorted(map(Identities.parse, said)))


def _address(text: str) -> str:
    """One that can be a gateway's in another mesh: never this machine's own, or its link's, however it is written."""
    address = ipaddress.ip_address(text)
    address = getattr(address, "ipv4_mapped", None) or address
    if address.is_loopback or address.is_unspecified or address.is_multicast or address.is_link_local:
        raise ValueError(f"{text} cannot be the address of a gateway in another mesh")
    return str(address)


def _port_number(number: int) -> int:
    if not 1 <= number <= 65535:
        raise ValueError(f"{number} is not a port")
    return number


def _network(text: str) -> NetworkId:
    return NetworkId(_word(text, "a network"))


def _word(text: str, what: str) -> str:
    if len(text) > _CHARACTERS_MAX or not text.isprintable():
        raise ValueError(f"{text[:_CHARACTERS_MAX]!r} is not the name of {what}")
    return text


def _bounded(found: tuple[object, ...], most: int, what: str) -> None:
    if len(found) > most:
        raise ValueError(f"{len(found)} {what} are more than the {most} that are taken")
