"""Identifiers are what everybody takes for a random UUID, and none comes twice."""

import uuid

from isthmus.apiserver.uids import new_uid


def test_an_identifier_is_a_random_uuid_in_its_usual_form():
    for _ in range(200):
        text = new_uid()
        found = uuid.UUID(text)
        assert (found.version, found.variant, str(found)) == (4, uuid.RFC_4122, text)


def test_no_identifier_comes_twice():
    assert len({new_uid() for _ in range(2000)}) == 2000
