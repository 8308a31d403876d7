"""Which filter chain serves a connection."""

from __future__ import annotations

import pytest

from isthmus.assurance.traffic.listening import outbound_listener
from isthmus.assurance.traffic.request import Request, Tls
from isthmus.assurance.traffic.walk import Outcome


def test_the_most_specific_port_wins_and_there_is_no_way_back(words):
    chains = (
        words.chain("any"),
        words.chain("port", destinationPort=8080, transportProtocol="tls"),
    )

    assert words.walked(Request(port=9000), *chains, inspectors=("tls",)).chain == "any"
    tls = words.walked(Request(port=8080, tls=Tls.TLS), *chains, inspectors=("tls",))
    assert tls.chain == "port"
    plain = words.walked(Request(port=8080), *chains, inspectors=("tls",))
    assert (plain.outcome, plain.chain) == (Outcome.CLOSED, "")


def test_what_no_chain_is_for_goes_to_the_default_chain(words):
    found = words.walked(
        Request(port=8080),
        words.chain("tls", transportProtocol="tls"),
        defaultFilterChain=words.chain("rest"),
        inspectors=("tls",),
    )

    assert (found.chain, found.chain_match) == ("rest", "what no other chain is for")


@pytest.mark.parametrize(
    ("sni", "chain"),
    [("a.b.example", "exact"), ("x.b.example", "longer"), ("x.example", "shorter"), ("else", "rest")],
)
def test_server_names_by_length(words, sni, chain):
    chains = (
        words.chain("shorter", serverNames=["*.example"]),
        words.chain("longer", serverNames=["*.b.example"]),
        words.chain("exact", serverNames=["a.b.example"]),
        words.chain("rest"),
    )

    assert words.walked(Request(port=1, tls=Tls.TLS, sni=sni), *chains, inspectors=("tls",)).chain == chain


def test_protocols_in_the_order_in_which_the_client_offers_them(words):
    chains = (
        words.chain("bytes", applicationProtocols=["istio"]),
        words.chain("http", applicationProtocols=["istio-h2"]),
    )
    offers = Request(port=1, tls=Tls.MUTUAL, alpn=("unknown", "istio-h2", "istio"))

    assert words.walked(offers, *chains, inspectors=("tls",)).chain == "http"


def test_without_an_inspector_tls_is_plain_bytes(words):
    chains = (words.chain("tls", transportProtocol="tls"), words.chain("plain", transportProtocol="raw_buffer"))

    assert words.walked(Request(port=1, tls=Tls.TLS), *chains).chain == "plain"


def test_http_is_seen_only_where_its_inspector_looks(words):
    chains = (words.chain("http", applicationProtocols=["http/1.1"]), words.chain("bytes"))
    off = {"destinationPortRange": {"start": 25, "end": 26}}
    inspector = {"name": "envoy.filters.listener.http_inspector", "filterDisabled": {"orMatch": {"rules": [off]}}}

    assert words.walked(Request(port=80), *chains, listenerFilters=[inspector]).chain == "http"
    assert words.walked(Request(port=25), *chains, listenerFilters=[inspector]).chain == "bytes"
    assert words.walked(Request(port=80, is_http=False), *chains, listenerFilters=[inspector]).chain == "bytes"


def test_destinations_by_the_longest_range(words):
    chains = (
        words.chain("wide", prefixRanges=[{"addressPrefix": "10.0.0.0", "prefixLen": 8}]),
        words.chain("narrow", prefixRanges=[{"addressPrefix": "10.1.0.0", "prefixLen": 16}]),
    )

    assert words.walked(Request(port=1, address="10.1.2.3"), *chains).chain == "narrow"
    assert words.walked(Request(port=1, address="10.2.2.3"), *chains).chain == "wide"
    assert words.walked(Request(port=1, address="192.0.2.1"), *chains).outcome is Outcome.CLOSED


def test_a_captured_connection_meets_the_listener_of_its_very_destination_first():
    def listener(name: str, address: str, port: int, **more: object) -> dict[str, object]:
        place = {"socketAddress": {"address": address, "portValue": port}}
        return {"name": name, "address": place, "trafficDirection": "OUTBOUND", **more}

    every = [
        listener("capture", "0.0.0.0", 15001, useOriginalDst=True),
        listener("port", "0.0.0.0", 80),
        listener("service", "10.96.0.1", 80),
    ]

    met = {
        place: (outbound_listener(every, *place) or {}).get("name")
        for place in (("10.96.0.1", 80), ("10.96.0.2", 80), ("10.96.0.1", 81))
    }
    assert met == {("10.96.0.1", 80): "service", ("10.96.0.2", 80): "port", ("10.96.0.1", 81): "capture"}
