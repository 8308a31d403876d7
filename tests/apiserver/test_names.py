"""Names are judged by texts that come again, which are remembered; what somebody makes up is not kept for him."""

from __future__ import annotations

import sys

import pytest

from isthmus.apiserver import names

REMEMBERING = (names.is_label, names.is_subdomain, names.is_qualified, names.is_label_value, names.is_usable_ipv4)


@pytest.mark.parametrize("judge", REMEMBERING)
def test_what_is_too_long_to_be_right_is_not_remembered(judge):
    text = "a" * 1_000_000
    before = sys.getrefcount(text)

    assert not judge(text)
    assert sys.getrefcount(text) == before


@pytest.mark.parametrize("judge", REMEMBERING[:4])
def test_what_is_right_is_known_at_once_the_next_time(judge):
    text = "".join(["a", "-name"])
    before = sys.getrefcount(text)

    assert judge(text)
    assert judge(text)
    assert sys.getrefcount(text) > before
