"""Answers of name servers that are given again: for how long, and to whom."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.dns import heard
from isthmus.dns.heard import HeardAnswers

SOA, OPT = 6, 41


def record(kind: int, seconds: int, data: bytes) -> bytes:
    """Of the name that was asked for."""
    return b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, seconds, len(data)) + data


def soa(seconds: int, *, least: int) -> bytes:
    """A zone, which says for how long there is no such name."""
    return record(SOA, seconds, b"\x02ns\x00" + b"\x00" + struct.pack("!5I", 1, 2, 3, 4, least))


def said(question: bytes, *, flags: int = 0x8180, answers=(), authority=(), options=b"") -> bytes:
    counts = struct.pack("!HHHH", 1, len(answers), len(authority), bool(options))
    end = question.index(b"\x00", 12) + 5
    return (
        question[:2] + struct.pack("!H", flags) + counts + question[12:end] + b"".join([*answers, *authority]) + options
    )


A = b"\xc0\x00\x02\x01"
REFUSED, TRUNCATED, NXDOMAIN = 0x8185, 0x8380, 0x8183
WITH_OPTIONS = b"\x00" + struct.pack("!HHIH", OPT, 1232, 0, 0)


@pytest.mark.parametrize(
    ("what", "seconds"),
    [
        ({"answers": [record(1, 3, A), record(1, 4, A)]}, 3),
        ({"answers": [record(1, 3600, A)]}, heard.SECONDS_MAX),
        ({"answers": [record(1, 3, A)], "options": WITH_OPTIONS}, 3),
        ({"answers": [record(1, 0, A)]}, 0),
        ({"flags": NXDOMAIN, "authority": [soa(30, least=2)]}, 2),
        ({"flags": NXDOMAIN, "authority": [soa(2, least=30)]}, 2),
        ({"authority": [soa(30, least=2)]}, 2),
        ({"flags": NXDOMAIN}, 0),
        ({"flags": NXDOMAIN, "answers": [record(5, 1, b"\xc0\x0c")], "authority": [soa(30, least=2)]}, 1),
        ({"flags": REFUSED, "authority": [soa(30, least=30)]}, 0),
        ({"flags": TRUNCATED, "answers": [record(1, 30, A)]}, 0),
        ({"answers": [record(1, 30, A)] * 80}, 0),
    ],
)
def test_an_answer_holds_for_the_shortest_time_in_it_and_not_for_long(dns, what, seconds):
    question, kept = dns.ask("www.example.org"), HeardAnswers()
    reply = said(question, **what)

    kept.keep(question, reply, now=100.0)

    assert kept.find(question, 100.0) == (reply if seconds else None)
    assert (kept.find(question, 100.0 + seconds - 0.01) is not None) is bool(seconds)
    assert kept.find(question, 100.0 + seconds) is None


def test_its_times_are_counted_down_and_its_identifier_is_the_asker_s(dns):
    question, kept = dns.ask("www.example.org", identifier=7), HeardAnswers()
    kept.keep(question, said(question, answers=[record(1, 60, A), record(1, 4, A)], options=WITH_OPTIONS), now=100.0)

    later = dns.ask("www.example.org", identifier=8)

    assert kept.find(later, 102.5) == said(later, answers=[record(1, 58, A), record(1, 2, A)], options=WITH_OPTIONS), (
        "the options' field at this place is no time"
    )


def test_only_the_same_question_is_answered_by_it(dns):
    question, kept = dns.ask("www.example.org"), HeardAnswers()
    kept.keep(question, said(question, answers=[record(1, 60, A)]), now=100.0)

    others = [dns.ask("www.example.org", "AAAA"), dns.ask("example.org"), dns.ask("www.example.org", payload=1232)]

    assert [kept.find(other, 100.0) for other in others] == [None, None, None]


def test_a_flood_of_different_questions_is_not_kept_for_ever(dns, monkeypatch):
    monkeypatch.setattr(heard, "_KEPT_MAX", 8)
    kept = HeardAnswers()

    for number in range(100):
        question = dns.ask(f"host-{number}.example.org")
        kept.keep(question, said(question, answers=[record(1, 60, A)]), now=100.0)

    assert sum(kept.find(dns.ask(f"host-{number}.example.org"), 100.0) is not None for number in range(100)) <= 8


@given(st.binary(max_size=80), st.binary(min_size=12, max_size=40))
def test_whatever_a_name_server_sends_keeping_it_raises_nothing(reply, packet):
    kept = HeardAnswers()

    kept.keep(packet, reply, now=0.0)
    kept.keep(packet, packet[:2] + b"\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00" + reply, now=0.0)

    kept.find(packet, 2.5)
