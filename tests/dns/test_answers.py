"""Which answer a name gets, for a Pod in namespace `shop` (the table is conftest's)."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from isthmus.dns.answers import NameTable, Verdict, answer, is_answer_to
from isthmus.model.views import NameRecord


@pytest.mark.parametrize(
    ("name", "kind", "addresses"),
    [
        ("cart.shop.svc.cluster.local", "A", ["10.97.0.1"]),
        ("cart.shop.svc", "A", ["10.97.0.1"]),
        ("cart.shop", "A", ["10.97.0.1"]),
        ("cart", "A", ["10.97.0.1"]),
        ("CART.Shop.svc.CLUSTER.local", "A", ["10.97.0.1"]),
        ("cart.other", "A", ["10.97.0.9"]),
        ("both.shop", "A", ["10.97.0.2"]),
        ("both.shop", "AAAA", ["fd00::2"]),
        ("six.shop", "AAAA", ["fd00::6"]),
        ("db-0.headless.shop.svc.cluster.local", "A", ["10.10.0.1"]),
        ("api.example.com", "A", ["240.240.0.1"]),
        ("a.wild.example.com", "A", ["240.240.0.2"]),
        ("a.b.wild.example.com", "A", ["240.240.0.2"]),
        ("exact.wild.example.com", "A", ["240.240.0.3"]),
    ],
)
def test_a_known_name_is_answered_with_its_addresses(dns, table, name, kind, addresses):
    reply = dns.read(answer(dns.ask(name, kind), table, over_udp=True))

    assert (reply.code, reply.identifier, reply.question) == ("NOERROR", 7, (name, kind))
    assert reply.records == [f"{name} {kind} {address}" for address in addresses]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("cart.shop", "AAAA"),
        ("six.shop", "A"),
        ("empty.shop.svc.cluster.local", "A"),
        ("a.wild.example.com", "AAAA"),
        ("cart.shop", "MX"),
        ("cart.shop", "SRV"),
        ("api.example.com.shop.svc.cluster.local", "AAAA"),
    ],
)
def test_a_known_name_without_such_a_record_has_no_data_and_no_error(dns, table, name, kind):
    """An error would make the resolver give up the name; asking somebody else would tell it that the name does not exist."""
    reply = dns.read(answer(dns.ask(name, kind), table, over_udp=True))

    assert reply.code == "NOERROR"
    assert reply.addresses == []


@pytest.mark.parametrize(
    "name",
    [
        "www.python.org",
        "wild.example.com",
        "other",
        "svc.cluster.local",
        "cart.shop.svc.cluster",
        "x.cart.shop.svc.cluster.local",
        "",
    ],
)
@pytest.mark.parametrize("kind", ["A", "AAAA", "TXT"])
def test_what_is_not_known_is_for_somebody_else(dns, table, name, kind):
    assert answer(dns.ask(name, kind), table, over_udp=True) is Verdict.FORWARD


def test_a_search_domain_spelling_is_answered_at_once_with_the_real_name(dns, table):
    name = "api.example.com.shop.svc.cluster.local"

    reply = dns.read(answer(dns.ask(name), table, over_udp=True))

    assert reply.records == [f"{name} CNAME api.example.com", "api.example.com A 240.240.0.1"]


def test_a_name_of_another_namespace_is_not_short_here(dns):
    record = NameRecord(
        host="db.other.svc.cluster.local", ips=("10.97.0.8",), registry="Kubernetes", short_name="db", namespace="other"
    )
    table = NameTable.prepare([record], namespace="shop", dns_domain="cluster.local")

    assert answer(dns.ask("db"), table, over_udp=True) is Verdict.FORWARD
    assert dns.read(answer(dns.ask("db.other"), table, over_udp=True)).addresses == ["10.97.0.8"]


def test_a_headless_services_endpoints_take_turns_in_being_first(dns, table):
    packet = dns.ask("headless.shop")

    replies = [dns.read(answer(packet, table, over_udp=True, turn=turn)).addresses for turn in range(4)]

    assert [addresses[0] for addresses in replies] == ["10.10.0.1", "10.10.0.2", "10.10.0.3", "10.10.0.1"]
    assert {frozenset(addresses) for addresses in replies} == {frozenset({"10.10.0.1", "10.10.0.2", "10.10.0.3"})}


@pytest.mark.parametrize("name", ["cart.shop", "www.python.org"])
def test_before_the_first_table_everybody_is_asked_to_try_again(dns, name):
    reply = dns.read(answer(dns.ask(name), None, over_udp=True))

    assert reply.code == "SERVFAIL"


def test_an_empty_table_is_a_table(dns):
    empty = NameTable.prepare([], namespace="shop", dns_domain="cluster.local")

    assert answer(dns.ask("cart.shop"), empty, over_udp=True) is Verdict.FORWARD


@pytest.mark.parametrize(
    ("payload", "over_udp", "bytes_max"),
    [(None, True, 512), (1232, True, 1232), (65535, True, 4096), (None, False, 65535)],
)
def test_an_answer_that_is_too_long_says_so_and_fits(dns, table, payload, over_udp, bytes_max):
    packet = answer(dns.ask("huge.shop", payload=payload), table, over_udp=over_udp)
    reply = dns.read(packet)

    assert len(packet) <= bytes_max
    assert reply.truncated == (len(reply.addresses) < 300)
    assert reply.truncated == over_udp
    assert len(packet) > bytes_max - 16 or not over_udp


def test_what_the_client_wishes_is_echoed_and_what_it_must_not_set_is_not(dns, table):
    wished = dns.read(answer(dns.ask("cart.shop", flags=0x0100), table, over_udp=True))
    not_wished = dns.read(answer(dns.ask("cart.shop", flags=0x0270), table, over_udp=True))

    assert wished.flags == 0x8580
    assert not_wished.flags == 0x8480


@pytest.mark.parametrize(
    ("packet", "code"),
    [
        (b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00", "FORMERR"),
        (b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03abc", "FORMERR"),
        (b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03abc\x00\x00\x01", "FORMERR"),
        (b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01", "FORMERR"),
        (b"\x00\x07\x01\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x01\x00\x00\x01\x00\x01", "FORMERR"),
        (b"\x00\x07\x10\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03abc\x00\x00\x01\x00\x01", "NOTIMP"),
        (b"\x00\x07\x28\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03abc\x00\x00\x01\x00\x01", "NOTIMP"),
    ],
)
def test_a_broken_question_is_answered_with_the_right_error(dns, table, packet, code):
    reply = dns.read(answer(packet, table, over_udp=True))

    assert (reply.identifier, reply.code, reply.records) == (7, code, [])


@pytest.mark.parametrize(
    "packet", [b"", b"\x00\x07", b"\x00\x07\x81\x80\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x01"]
)
def test_what_is_not_a_question_is_not_answered(table, packet):
    assert answer(packet, table, over_udp=True) is Verdict.IGNORE


headers = st.builds(
    lambda numbers, rest: b"".join(number.to_bytes(2) for number in numbers) + rest,
    st.tuples(*[st.integers(0, 65535) | st.integers(0, 2)] * 6),
    st.binary(max_size=80) | st.binary(max_size=40).map(lambda tail: b"\x04cart\x04shop\x00\x00\x01\x00\x01" + tail),
)


@settings(max_examples=1000)
@given(st.binary(max_size=600) | headers, st.booleans(), st.booleans())
@example(b"\x00" * 12, True, True)
@example(b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" + b"\x3f" * 500, True, True)
def test_whatever_bytes_come_in_nothing_is_raised_and_an_answer_is_an_answer(table, packet, over_udp, ready):
    reply = answer(packet, table if ready else None, over_udp=over_udp)

    if isinstance(reply, bytes):
        assert reply[:2] == packet[:2]
        assert reply[2] & 0x80, "or two servers could talk to each other for ever"
        assert len(reply) <= max(4096, len(packet))


@settings(max_examples=500)
@given(st.binary(max_size=100) | headers, st.binary(max_size=100) | headers)
def test_whatever_an_upstream_server_sends_judging_it_raises_nothing(reply, packet):
    assert is_answer_to(reply, packet) in (True, False)


def test_only_the_answer_to_the_question_that_was_asked_is_one(dns):
    question = dns.ask("www.python.org")
    right = dns.reply(question, "192.0.2.1")

    assert is_answer_to(right, question)
    assert not is_answer_to(dns.reply(question, "192.0.2.1", identifier=8), question)
    assert not is_answer_to(dns.reply(dns.ask("www.evil.org"), "192.0.2.1"), question)
    assert not is_answer_to(question, question)
    assert not is_answer_to(right[:11], question)


labels = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=63)


@given(st.lists(labels, min_size=1, max_size=3, unique=True), st.lists(st.ip_addresses(v=4), max_size=5, unique=True))
def test_every_name_that_is_put_in_is_found_however_it_is_written(dns, parts, ips):
    host = ".".join(parts)
    record = NameRecord(host=host, ips=tuple(map(str, ips)), registry="External", short_name=host, namespace="shop")
    table = NameTable.prepare([record], namespace="shop", dns_domain="cluster.local", search_domains=["shop.svc.x"])

    for spelling in (host, host.upper(), f"{host}.shop.svc.x"):
        reply = dns.read(answer(dns.ask(spelling), table, over_udp=False))
        assert sorted(reply.addresses) == sorted(map(str, ips))


@pytest.mark.parametrize(
    "host", ["x" * 64 + ".example.com", "x" * 300, "a..b", "b\u00fccher.example.com", ".".join(["x" * 60] * 5)]
)
def test_a_name_that_dns_cannot_say_disturbs_no_other(dns, host):
    good = NameRecord(host="good.example.com", ips=("10.0.0.1",), registry="External", short_name="good", namespace="x")
    bad = NameRecord(host=host, ips=("10.0.0.2",), registry="External", short_name="bad", namespace="x")

    for records in itertools.permutations([good, bad]):
        table = NameTable.prepare(records, namespace="x", dns_domain="cluster.local", search_domains=["x.svc.y"])
        assert dns.read(answer(dns.ask("good.example.com"), table, over_udp=True)).addresses == ["10.0.0.1"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["cart.shop", "headless.shop", "six.shop", "nobody.example", "x" * 70]), st.booleans()
        ),
        max_size=20,
    )
)
def test_what_is_remembered_is_what_would_be_answered(dns, table, asked):
    """For any questions in any order: the remembered answer is the computed one, byte for byte."""
    for turn, (name, large) in enumerate(asked):
        packet = dns.ask(name, identifier=turn, payload=1232 if large else None)
        computed, remembered = answer(packet, table, over_udp=True, turn=turn), table.datagram(packet, turn)

        assert remembered == computed


WILD = [
    NameRecord(
        host=host,
        ips=tuple(f"240.{number}.0.{n + 1}" for n in range(count)),
        registry="External",
        short_name="",
        namespace="x",
    )
    for number, (host, count) in enumerate(
        [("*.one.example", 1), ("*.some.example", 3), ("*.many.example", 25), ("*.none.example", 0)]
    )
]


@given(
    st.lists(
        st.tuples(
            st.lists(st.text("abC-", min_size=1, max_size=63), max_size=4),
            st.sampled_from(
                ["one.example", "SOME.example", "many.example", "none.example", "known.one.example", "example"]
            ),
            st.sampled_from(["A", "AAAA", "MX"]),
        ),
        max_size=20,
    )
)
def test_names_below_a_wildcard_are_answered_alike_and_each_as_if_it_were_the_first(dns, asked):
    """Also those that are too long for a name, or whose answer is too long for a datagram."""
    known = NameRecord(host="known.one.example", ips=("10.0.0.1",), registry="External", short_name="", namespace="x")
    table = NameTable.prepare([*WILD, known], namespace="x", dns_domain="cluster.local", search_domains=["x.svc.y"])

    for turn, (labels_before, end, kind) in enumerate(asked):
        packet = dns.ask(".".join([*labels_before, end]), identifier=turn, kind=kind)

        assert table.datagram(packet, turn) == answer(packet, table, over_udp=True, turn=turn)


def test_names_below_a_wildcard_take_nobodys_place(dns):
    table = NameTable.prepare(WILD, namespace="x", dns_domain="cluster.local", search_domains=[])
    for number in range(5000):
        table.datagram(dns.ask(f"host-{number}.one.example"), 0)

    assert not table._said


def test_a_flood_of_different_questions_is_not_remembered_for_ever(dns, table):
    for number in range(5000):
        table.datagram(dns.ask(f"host-{number}.example.org"), 0)
        table.datagram(dns.ask("cart.shop") + number.to_bytes(30), 0)

    assert len(table._said) <= 2048
