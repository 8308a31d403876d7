"""What a SPIFFE ID may look like, and what people are told of one that may not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.model.identity import SpiffeId, TrustDomain, trust_domain_of

NAMES = st.text("abcxyz019._-", min_size=1, max_size=20)
SEGMENTS = st.text("abzAZ09._-", min_size=1, max_size=20).filter(lambda segment: segment not in (".", ".."))


@given(NAMES, st.lists(SEGMENTS, max_size=4))
def test_an_id_is_read_as_it_is_written(name, segments):
    text = "spiffe://" + "/".join([name, *segments])

    identity = SpiffeId.parse(text)

    assert str(identity) == text
    assert identity.trust_domain == TrustDomain(name)
    assert trust_domain_of(text) == trust_domain_of(name) == TrustDomain(name)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "cannot be empty"),
        ("https://east.example/web", "scheme"),
        ("SPIFFE://east.example/web", "scheme"),
        ("east.example/web", "scheme"),
        ("spiffe:///web", "trust domain is missing"),
        ("spiffe://East.example/web", "trust domain characters"),
        ("spiffe://east.example:443/web", "trust domain characters"),
        ("spiffe://" + "a" * 256, "at most 255"),
        ("spiffe://east.example/", "trailing slash"),
        ("spiffe://east.example/web/", "trailing slash"),
        ("spiffe://east.example//web", "empty segments"),
        ("spiffe://east.example/web/../admin", "dot segments"),
        ("spiffe://east.example/web%2Fadmin", "path segment characters"),
        ("spiffe://east.example/web?admin=1", "path segment characters"),
        ("spiffe://east.example/web\n", "path segment characters"),
        ("spiffe://east.example/" + "a" * 2048, "at most 2048 bytes"),
    ],
)
def test_the_broken_rule_is_named(text, rule):
    with pytest.raises(ValueError, match=rule):
        SpiffeId.parse(text)


@pytest.mark.parametrize(
    "text", ["", "East", "a b", "spiffe:/east.example", "spiffe:///web", "spiffe://east.example/web/"]
)
def test_a_trust_domain_comes_from_a_name_or_a_whole_id_and_nothing_between(text):
    with pytest.raises(ValueError, match=r"trust domain|SPIFFE ID"):
        trust_domain_of(text)
