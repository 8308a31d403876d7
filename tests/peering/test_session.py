"""What is told and what is heard, without any connection."""

from __future__ import annotations

import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.peering.messages import (
    LINE_BYTES_MAX,
    RESOURCE_BYTES_MAX,
    Malformed,
    News,
    encode,
    from_asker,
    from_teller,
)
from isthmus.peering.session import Hearing, Telling

DEEP = b'{"type":"news","changed":{"a":' + b"[" * 5000 + b"]" * 5000 + b"}}"
histories = st.lists(st.dictionaries(st.sampled_from("abcd"), st.integers(0, 3).map(lambda n: b"%d" % n)), max_size=6)


@given(histories, st.data())
def test_whoever_takes_all_news_has_what_the_teller_has_however_often_the_connection_breaks(
    history: list[dict[str, bytes]], data: st.DataObject
) -> None:
    hearing = Hearing()
    telling = Telling(hearing.known)
    for resources in history:
        if data.draw(st.booleans(), label="broken"):
            hearing.interrupted()
            telling = Telling(hearing.known)
        for news in telling.news(resources):
            hearing.take(msgspec.json.decode(encode(news), type=News))
        assert hearing.resources == resources


def test_what_both_have_is_not_told_again() -> None:
    hearing = Hearing()
    for news in Telling({}).news({"a": b"1", "b": b"2"}):
        hearing.take(news)

    [again] = Telling(hearing.known).news({"a": b"1", "b": b"3"})
    assert again.changed.keys() == {"b"}
    telling = Telling(hearing.known)
    assert len(telling.news({"a": b"1", "b": b"2"})) == 1, "the first answer says that there is nothing new"
    assert telling.news({"a": b"1", "b": b"2"}) == []


def test_large_news_come_in_lines_of_bounded_length_and_count_together() -> None:
    resources = {str(n): b'"%s"' % (b"x" * 200_000) for n in range(12)}
    hearing = Hearing()

    parts = Telling({}).news(resources)
    assert all(len(encode(part)) < LINE_BYTES_MAX for part in parts)
    for part in parts[:-1]:
        assert not hearing.take(part)
        assert hearing.resources == {}
    assert hearing.take(parts[-1])
    assert hearing.resources == resources


def test_a_resource_that_is_too_large_is_no_message() -> None:
    with pytest.raises(Malformed):
        Hearing().take(News(changed={"a": msgspec.Raw(b'"%s"' % (b"x" * RESOURCE_BYTES_MAX))}))


@pytest.mark.parametrize(
    "line", [b"", b"{}", b"[]", b'{"type":"hello"}', b'{"type":"news","changed":7}', b"\xff", DEEP]
)
def test_what_is_no_message_is_refused(line: bytes) -> None:
    for read in (from_asker, from_teller):
        with pytest.raises(Malformed):
            read(line)


def test_more_than_anybody_has_to_keep_is_no_message() -> None:
    part = {str(number): msgspec.Raw(b'"%s"' % (b"x" * 200_000)) for number in range(400)}

    with pytest.raises(Malformed, match="bytes"):
        Hearing().take(News(changed=part))


def test_more_names_than_anybody_has_to_keep_are_no_message() -> None:
    with pytest.raises(Malformed, match="more than 10000 resources"):
        Hearing().take(News(changed={str(number): msgspec.Raw(b"1") for number in range(10_001)}))


def test_names_are_part_of_what_has_to_be_kept() -> None:
    with pytest.raises(Malformed, match="characters"):
        Hearing().take(News(changed={"x" * 254: msgspec.Raw(b"1")}))
    names = {f"{number:0253}": msgspec.Raw(b"1") for number in range(20)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("isthmus.peering.session.WHOLE_BYTES_MAX", 5000)
        with pytest.raises(Malformed, match="bytes"):
            Hearing().take(News(changed=names))


def test_a_peer_may_replace_everything_by_as_much_again() -> None:
    body = b'"%s"' % (b"x" * 250_000)
    old = {f"old/{number}": body for number in range(200)}
    new = {f"new/{number}": body for number in range(200)}
    hearing = Hearing(old)

    for news in Telling(hearing.known).news(new):
        hearing.take(news)

    assert hearing.resources == new


def test_as_many_names_as_there_may_be_can_be_removed_at_once() -> None:
    """Ten thousand of them are looked up, not searched for: that would take seconds."""
    hearing = Hearing({str(number): b"1" for number in range(10_000)})
    began = time.process_time()

    hearing.take(News(changed={"new": msgspec.Raw(b"1")}, removed=tuple(hearing.resources)))

    assert hearing.resources == {"new": b"1"}
    assert time.process_time() - began < 0.3


def test_fields_of_a_newer_side_are_passed_over() -> None:
    assert from_teller(b'{"type":"news","changed":{},"mood":"good"}') == News()
