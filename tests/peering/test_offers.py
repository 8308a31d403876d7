"""Offers on their way: what arrives is what was sent, and what a peer has no say in is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from isthmus.model.federation import Identities, OfferedService, Offers, Place
from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.model.names import ClusterId, Namespace, NetworkId
from isthmus.model.services import Protocol, ServicePort
from isthmus.model.topology import Locality, NetworkGateway
from isthmus.peering.offers import offers_of, resources_of

PEER = TrustDomain("b.example")
HELLO = OfferedService(
    namespace=Namespace("sample"),
    name="hello",
    ports=(ServicePort(number=80, name="http", protocol=Protocol.HTTP),),
    places=(
        Place(
            network=NetworkId("n1"),
            locality=Locality("eu", "eu-1"),
            identity=SpiffeId(PEER, "/ns/sample/sa/hello"),
            weight=2,
        ),
    ),
)
GATEWAY = NetworkGateway(address="203.0.113.1", port=15444, network=NetworkId("n1"), cluster=ClusterId(""))
OFFERS = Offers(services=(HELLO,), gateways=(GATEWAY,), identities=(Identities("sample", "*"),))


def test_offers_arrive_as_they_were_sent() -> None:
    assert offers_of(resources_of(OFFERS), PEER) == (OFFERS, {})


def said(**changes: Any) -> dict[str, Any]:
    place = {"network": "n1", "identity": "spiffe://b.example/ns/sample/sa/hello", "weight": 2}
    port = {"name": "http", "number": 80, "protocol": "http"}
    return {
        "ports": [port | changes.pop("port", {})],
        "places": [place | changes.pop("place", {})],
    } | changes


@pytest.mark.parametrize(
    ("name", "body", "why"),
    [
        ("service/sample/hello", said(place={"identity": "spiffe://a.example/ns/sample/sa/hello"}), "own trust domain"),
        ("service/sample/hello", said(place={"identity": "spiffe://b.example"}), "own trust domain"),
        ("service/sample/hello", said(place={"weight": 0}), "weight"),
        ("service/sample/hello", said(place={"weight": 1 << 40}), "weight"),
        ("service/sample/hello", said(port={"number": 0}), "not a port"),
        ("service/sample/hello", said(ports=[{"name": "a", "number": 80, "protocol": "http"}] * 2), "one number"),
        ("service/sample/hello", said(ports="all"), "Expected"),
        ("service/kube-system.svc.cluster.local/x", said(), "NAMESPACE/NAME"),
        ("service/sample/a.b", said(), "NAMESPACE/NAME"),
        ("gateways", [{"network": "n1", "address": "127.0.0.1", "port": 15444}], "cannot be"),
        ("gateways", [{"network": "n1", "address": "169.254.169.254", "port": 80}], "cannot be"),
        ("gateways", [{"network": "n1", "address": "::ffff:127.0.0.1", "port": 15444}], "cannot be"),
        ("gateways", [{"network": "n1", "address": "::ffff:169.254.169.254", "port": 80}], "cannot be"),
        ("gateways", [{"network": "n1", "address": "gateway.example", "port": 80}], "does not appear"),
        ("gateways", [{"network": "n\n1", "address": "203.0.113.1", "port": 80}], "network"),
        ("service/sample/hello", said(place={"locality": "eu\x1b[2J"}), "locality"),
        ("service/sample/hello", said(port={"name": "x" * 300}), "port"),
        ("identities", ["sample"], "NAMESPACE/ACCOUNT"),
    ],
)
def test_what_a_peer_cannot_say_is_refused_with_a_reason_and_the_rest_counts(name: str, body: Any, why: str) -> None:
    resources = {**resources_of(OFFERS), "service/other/fine": resources_of(OFFERS)["service/sample/hello"]}

    found, refused = offers_of({**resources, name: json.dumps(body).encode()}, PEER)

    assert refused.keys() == {name}
    assert why in refused[name]
    assert "fine" in [each.name for each in found.services]


def test_what_is_nested_without_end_is_refused_like_anything_else() -> None:
    body = b'{"ports":[],"more":' + b"[" * 100_000 + b"]" * 100_000 + b"}"

    found, refused = offers_of({**resources_of(OFFERS), "service/sample/deep": body}, PEER)

    assert (found, refused.keys()) == (OFFERS, {"service/sample/deep"})


def test_what_is_shown_of_a_refusal_is_short_and_plain() -> None:
    resources = {f"service/\x1b[2J{number}": b"{" + b"x" * 1000 for number in range(500)}

    _, refused = offers_of(resources, PEER)

    assert len(refused) == 100
    assert all(text.isprintable() and len(text) <= 300 for pair in refused.items() for text in pair)


def test_a_kind_of_resource_that_a_newer_peer_has_is_passed_over() -> None:
    assert offers_of({**resources_of(OFFERS), "weather": b"{}"}, PEER) == (OFFERS, {})


def test_a_protocol_that_is_not_known_here_is_bytes() -> None:
    found, _ = offers_of({"service/sample/hello": json.dumps(said(port={"protocol": "quic"})).encode()}, PEER)

    assert found.services[0].ports[0].protocol is Protocol.TCP


PLACE = {"network": "n1", "identity": "spiffe://b.example/ns/sample/sa/hello", "weight": 2}
MANY = {
    "places": ("service/sample/hello", lambda count: said(places=[PLACE] * count), 1000),
    "ports": (
        "service/sample/hello",
        lambda count: said(ports=[{"name": f"p{n}", "number": n + 1, "protocol": "tcp"} for n in range(count)]),
        100,
    ),
    "gateways": ("gateways", lambda count: [{"network": "n1", "address": "203.0.113.1", "port": 15444}] * count, 256),
    "identities": ("identities", lambda count: ["sample/*"] * count, 10_000),
}


@pytest.mark.parametrize("what", MANY)
def test_of_everything_there_are_so_many_and_no_more(what: str) -> None:
    name, body, most = MANY[what]

    def refused(count: int) -> dict[str, str]:
        return offers_of({name: json.dumps(body(count)).encode()}, PEER)[1]

    assert refused(most) == {}
    assert list(refused(most + 1)) == [name]
