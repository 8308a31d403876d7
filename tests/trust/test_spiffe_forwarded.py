"""Identities in `x-forwarded-client-cert`, and whose word on them counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.trust.forwarded import ForwardedClient, forwarded_identities, is_trusted_peer, parse_forwarded

RANGES = "10.17.0.0/16, fd00:17::/32,"


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [
        ("10.17.3.4", True),
        ("10.17.3.4:41000", True),
        ("10.18.0.1", False),
        ("fd00:17::1", True),
        ("[fd00:17::1]:41000", True),
        ("fd00:18::1", False),
        ("::ffff:10.17.3.4", True),
        ("127.0.0.1", True),
        ("[::1]:41000", True),
    ],
)
def test_trusted_are_loopback_and_the_ranges(peer, trusted):
    assert is_trusted_peer(peer, RANGES) is trusted


def test_without_ranges_only_loopback_is_trusted():
    assert not is_trusted_peer("10.17.3.4", "")
    assert is_trusted_peer("127.0.0.1", "")


@pytest.mark.parametrize(("peer", "ranges"), [("nobody", RANGES), ("", RANGES), ("10.17.3.4", "10.17.0.0/99")])
def test_an_address_or_range_that_is_none_trusts_nobody(peer, ranges):
    with pytest.raises(ValueError, match="does not appear to be"):
        is_trusted_peer(peer, ranges)


def test_each_hop_tells_of_its_client_in_order():
    header = (
        r'By=spiffe://east.example/gateway;Hash=ab;Subject="CN=web,O=Ant\, Bee\; Cow";'
        "URI=spiffe://east.example/web;DNS=web.east;DNS=www.east,"
        'By=spiffe://west.example/api;Hash=cd;Subject="";uri=spiffe://east.example/gateway'
    )

    clients = parse_forwarded(header)

    assert clients == [
        ForwardedClient(("spiffe://east.example/web",), ("web.east", "www.east"), r"CN=web,O=Ant\, Bee\; Cow"),
        ForwardedClient(("spiffe://east.example/gateway",), (), ""),
    ]
    assert forwarded_identities(header) == [
        "spiffe://east.example/web",
        "web.east",
        "www.east",
        "web",
        "spiffe://east.example/gateway",
    ]


def test_what_the_proxy_says_of_itself_is_nobodys_identity():
    assert forwarded_identities("By=spiffe://east.example/gateway;Hash=ab;URI=") == []


def test_quotes_keep_separators_from_adding_identities():
    header = 'Subject="CN=eve\\",URI=spiffe://east.example/admin";URI="spiffe://east.example/eve"'

    assert "spiffe://east.example/admin" not in [uri for client in parse_forwarded(header) for uri in client.uris]


@pytest.mark.parametrize(
    "header", ["", "hello", "URI=a,", "URI=a;", ",URI=a", 'URI="a', 'URI="a"b', "URI=a\nURI", "=a", "URI=a," * 20_000]
)
def test_half_a_header_is_worth_nothing(header):
    with pytest.raises(ValueError, match="x-forwarded-client-cert"):
        forwarded_identities(header)


def test_a_subject_that_is_none_is_worth_nothing():
    with pytest.raises(ValueError, match="not a subject"):
        forwarded_identities('URI=spiffe://east.example/web;Subject="web"')


@given(st.text('URI=DNS;," \\ab', max_size=60))
def test_any_text_is_read_or_refused(header):
    try:
        identities = forwarded_identities(header)
    except ValueError:
        return
    assert all(identities)


def test_a_header_without_end_is_not_read():
    with pytest.raises(ValueError, match="larger than 65536 bytes"):
        parse_forwarded("URI=spiffe://cluster.local/ns/a/sa/b;" + "Hash=0;" * 10_000)
