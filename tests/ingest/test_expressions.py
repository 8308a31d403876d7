"""Expressions of users are judged once and remembered, as long as they are as short as expressions are."""

from __future__ import annotations

import sys

import pytest

from isthmus.ingest.expressions import not_cel
from isthmus.model.regular_expressions import not_re2


@pytest.mark.parametrize("judge", [not_cel, not_re2])
def test_what_is_very_long_is_judged_and_not_remembered(judge):
    text = f"'{'a' * 200_000}"
    before = sys.getrefcount(text)

    assert judge(text)
    assert sys.getrefcount(text) == before
