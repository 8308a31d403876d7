"""Listing, then watching: whatever goes wrong on the way, in the end the cache equals the server's state."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.kubernetes.watch import AskList, AskWatch, Change, ListThenWatch, Name, WatchEnded

NAMES = ("a", "b", "c")
INITIAL_END = {"k8s.io/initial-events-end": "true"}


def decode(raw: bytes) -> str:
    """An object's value. `bad` is what an object may not have."""
    value = str(json.loads(raw).get("value", ""))
    if value == "bad":
        raise ValueError("a bad value")
    return value


def decode_typed(raw: bytes) -> str:
    """As msgspec refuses: with errors that are no ValueErrors."""
    return msgspec.convert(json.loads(raw)["value"], str)


def named(name: str, version: int, value: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "ns", "resourceVersion": str(version)}, "value": value}


def event(kind: str, of: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": of}).encode()


def added(name: str, version: int, value: str = "x") -> bytes:
    return event("ADDED", named(name, version, value))


def modified(name: str, version: int, value: str = "x") -> bytes:
    return event("MODIFIED", named(name, version, value))


def deleted(name: str, version: int, value: str = "x") -> bytes:
    return event("DELETED", named(name, version, value))


def bookmark(version: int, annotations: dict[str, str] | None = None) -> bytes:
    return event("BOOKMARK", {"metadata": {"resourceVersion": str(version), "annotations": annotations or {}}})


def page(version: int, *items: dict[str, Any], more: str = "") -> bytes:
    return json.dumps({"metadata": {"resourceVersion": str(version), "continue": more}, "items": items}).encode()


@pytest.fixture
def cache() -> ListThenWatch[str]:
    """Synced at version 10 with a=1 and b=1."""
    found = ListThenWatch(decode)
    found.next_request(60)
    for line in (added("a", 3, "1"), added("b", 4, "1"), bookmark(10, INITIAL_END)):
        found.line(line)
    return found


def test_the_list_is_asked_for_as_the_beginning_of_a_watch():
    request = ListThenWatch(decode, selector={"labelSelector": "x=y"}).next_request(60)

    assert isinstance(request, AskWatch)
    assert dict(request.parameters) == {
        "labelSelector": "x=y",
        "watch": "true",
        "allowWatchBookmarks": "true",
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
        "timeoutSeconds": "60",
    }


def test_what_came_before_the_end_of_the_list_appears_all_at_once():
    cache = ListThenWatch(decode)
    cache.next_request(60)

    changes = [cache.line(line) for line in (added("b", 4, "1"), added("a", 3, "1"), bookmark(10, INITIAL_END))]

    assert changes == [[], [], [Change(("ns", "a"), None, "1"), Change(("ns", "b"), None, "1")]]
    assert cache.synced


@pytest.mark.parametrize("status", [400, 422])
def test_a_server_that_does_not_know_such_lists_is_listed_in_pages(status):
    cache = ListThenWatch(decode)
    cache.next_request(60)
    cache.refused(status)

    first = cache.next_request(60)
    nothing = cache.page(page(10, named("a", 3, "1"), more="token"))
    second = cache.next_request(60)
    changes = cache.page(page(10, named("b", 4, "1")))
    third = cache.next_request(60)

    assert [type(request) for request in (first, second, third)] == [AskList, AskList, AskWatch]
    assert dict(second.parameters)["continue"] == "token"
    assert dict(third.parameters)["resourceVersion"] == "10"
    assert (nothing, len(changes), cache.values) == ([], 2, {("ns", "a"): "1", ("ns", "b"): "1"})


def test_changes_are_told_with_what_was_before(cache):
    changes = [cache.line(line) for line in (modified("a", 11, "2"), deleted("b", 12), added("c", 13, "1"))]

    assert changes == [
        [Change(("ns", "a"), "1", "2")],
        [Change(("ns", "b"), "1", None)],
        [Change(("ns", "c"), None, "1")],
    ]


def test_a_change_that_means_nothing_says_nothing_but_counts(cache):
    changes = cache.line(modified("a", 11, "1"))

    assert changes == []
    assert dict(cache.next_request(60).parameters)["resourceVersion"] == "11"


@pytest.mark.parametrize(
    "old",
    [
        pytest.param(modified("a", 3, "0"), id="a change that is known"),
        pytest.param(modified("a", 11, "0"), id="a change older than the newest"),
        pytest.param(deleted("a", 2), id="the removal of an object that came back"),
        pytest.param(added("b", 4, "1"), id="the beginning of an object that is gone"),
        pytest.param(modified("b", 12, "0"), id="a change of an object that is gone"),
    ],
)
def test_an_event_that_comes_late_or_twice_changes_nothing(cache, old):
    for line in (modified("a", 12, "2"), deleted("b", 13)):
        cache.line(line)

    changes = cache.line(old)

    assert changes == []
    assert cache.values == {("ns", "a"): "2"}


def test_nothing_comes_back_from_before_a_bookmark(cache):
    for line in (deleted("b", 13), bookmark(40)):
        cache.line(line)

    changes = [cache.line(line) for line in (added("b", 4, "1"), added("c", 40, "1"), added("b", 41, "2"))]

    assert changes == [[], [], [Change(("ns", "b"), None, "2")]]


def test_a_bookmark_says_nothing_about_what_is_newer_than_itself(cache):
    for line in (modified("a", 12, "2"), bookmark(10)):
        cache.line(line)

    assert cache.line(modified("b", 11, "2")) == [Change(("ns", "b"), "1", "2")]


def test_a_watch_that_ended_goes_on_where_the_last_event_or_bookmark_was(cache):
    cache.line(modified("a", 11, "2"))
    cache.line(bookmark(40))

    assert dict(cache.next_request(60).parameters)["resourceVersion"] == "40"


@pytest.mark.parametrize("told", ["in the stream", "as the answer"])
def test_a_version_that_is_too_old_means_a_new_list_and_until_then_the_cache_stays(cache, told):
    if told == "as the answer":
        cache.refused(410)
    else:
        with pytest.raises(WatchEnded) as ended:
            cache.line(event("ERROR", {"code": 410, "message": "too old"}))
        assert ended.value.expired
    kept = cache.values

    request = cache.next_request(60)
    changes = [change for line in (added("a", 3, "1"), bookmark(90, INITIAL_END)) for change in cache.line(line)]

    assert kept == {("ns", "a"): "1", ("ns", "b"): "1"}
    assert dict(request.parameters)["sendInitialEvents"] == "true"
    assert changes == [Change(("ns", "b"), "1", None)]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b'{"type":"ADDED"}',
        b'{"type":"NEW","object":{}}',
        b'{"type":"ADDED","object":[]}',
        b"\xff\xfe",
        b'{"type":"\xff","object":{}}',
        pytest.param(b'{"type":"ADDED","object":' + b"[" * 5000 + b"]" * 5000 + b"}", id="too deep"),
        pytest.param(b'{"type":"ADDED","object":{"metadata":{"resourceVersion":"11"}}}', id="an object without a name"),
    ],
)
def test_what_is_not_understood_ends_the_watch_and_changes_nothing(cache, line):
    with pytest.raises(WatchEnded):
        cache.line(line)

    assert cache.values == {("ns", "a"): "1", ("ns", "b"): "1"}
    assert dict(cache.next_request(60).parameters)["resourceVersion"] == "10"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"kind":"Status","metadata":{}}',
        b'{"metadata":{},"items":[]}',
        b'{"metadata":{"resourceVersion":"90"},"items":[7]}',
        b'{"metadata":{"resourceVersion":"90"},"items":[{"metadata":{"name":7}}]}',
        b'{"metadata":{"resourceVersion":"90"},"items":[{"metadata":{}}]}',
        b'{"metadata":{"resourceVersion":"\xff"},"items":[]}',
    ],
)
def test_what_is_not_a_list_takes_nothing_away(cache, body):
    cache.refused(410)
    cache.next_request(60)
    cache.refused(400)
    cache.next_request(60)

    with pytest.raises(WatchEnded):
        cache.page(body)

    assert cache.values == {("ns", "a"): "1", ("ns", "b"): "1"}
    assert isinstance(cache.next_request(60), AskList)


def test_the_end_of_a_list_without_a_version_takes_nothing_away(cache):
    cache.refused(410)
    cache.next_request(60)

    with pytest.raises(WatchEnded):
        cache.line(event("BOOKMARK", {"metadata": {"annotations": INITIAL_END}}))

    assert cache.values == {("ns", "a"): "1", ("ns", "b"): "1"}


@pytest.mark.parametrize("version", ["²", "9" * 5000, "abc"])
def test_an_object_whose_version_is_no_number_is_believed(cache, version):
    of = {"metadata": {"name": "a", "namespace": "ns", "resourceVersion": version}, "value": "2"}

    assert cache.line(event("MODIFIED", of)) == [Change(("ns", "a"), "1", "2")]
    assert dict(cache.next_request(60).parameters)["resourceVersion"] == "10"


def test_a_malformed_object_is_left_out_named_and_disturbs_no_other(cache):
    changes = [cache.line(line) for line in (modified("a", 11, "bad"), added("c", 12, "1"))]

    assert changes == [[Change(("ns", "a"), "1", None)], [Change(("ns", "c"), None, "1")]]
    assert cache.malformed == {("ns", "a"): "a bad value"}

    mended = cache.line(modified("a", 13, "2"))
    assert mended == [Change(("ns", "a"), None, "2")]
    assert cache.malformed == {}


def test_an_object_of_the_wrong_type_is_malformed_too():
    cache = ListThenWatch(decode_typed)
    cache.next_request(60)

    for line in (event("ADDED", named("a", 3, "1") | {"value": 7}), added("b", 4, "1"), bookmark(10, INITIAL_END)):
        cache.line(line)

    assert cache.values == {("ns", "b"): "1"}
    assert "Expected `str`" in cache.malformed["ns", "a"]


def test_a_malformed_object_that_went_while_nobody_looked_is_named_no_more(cache):
    cache.line(modified("a", 11, "bad"))
    cache.refused(410)
    cache.next_request(60)

    cache.line(bookmark(90, INITIAL_END))

    assert cache.malformed == {}


def test_a_server_that_was_restored_to_an_older_state_is_believed(cache):
    cache.refused(410)
    cache.next_request(60)
    for line in (added("a", 1, "0"), bookmark(2, INITIAL_END)):
        cache.line(line)

    changes = cache.line(modified("a", 3, "now"))

    assert changes == [Change(("ns", "a"), "0", "now")]


@dataclass
class Server:
    """The truth: objects, and the events since `compacted`. Pages are of two objects."""

    watch_lists: bool
    version: int = 1
    objects: dict[str, tuple[int, str]] = field(default_factory=dict)
    events: list[tuple[int, bytes]] = field(default_factory=list)
    compacted: int = 0
    rest: list[dict[str, Any]] | None = None

    def write(self, name: str, value: str | None) -> None:
        self.version += 1
        known = name in self.objects
        if value is None:
            if known:
                del self.objects[name]
                self.events.append((self.version, deleted(name, self.version)))
            return
        self.objects[name] = (self.version, value)
        self.events.append((self.version, (modified if known else added)(name, self.version, value)))

    def compact(self) -> None:
        self.compacted = self.version
        self.events.clear()

    def restart(self) -> None:
        """It remembers its objects, but neither what led to them nor who was in the middle of a list."""
        self.compact()
        self.rest = None

    def listed(self, token: str) -> bytes | int:
        """A page, or the status of a refusal."""
        if token and self.rest is None:
            return 410
        if not token or self.rest is None:
            self.rest = [named(name, *found) for name, found in sorted(self.objects.items())]
            self.at = self.version
        now, self.rest = self.rest[:2], self.rest[2:]
        return page(self.at, *now, more="more" if self.rest else "")

    def watched(self, parameters: dict[str, str]) -> list[bytes] | int:
        """Lines, or the status of a refusal."""
        if "sendInitialEvents" in parameters:
            if not self.watch_lists:
                return 422
            items = [added(name, *found) for name, found in sorted(self.objects.items())]
            return [*items, bookmark(self.version, INITIAL_END)]
        since = int(parameters["resourceVersion"])
        if since < self.compacted:
            return 410
        return [line for version, line in self.events if version > since]


def one_request(cache: ListThenWatch[str], server: Server, fault: str, number: int, seen: list[Change[str]]) -> None:
    request = cache.next_request(60)
    parameters = dict(request.parameters)
    if fault == "refused":
        cache.refused((410, 500, 429, 503)[number % 4])
        return
    if isinstance(request, AskList):
        try:
            body = server.listed(parameters.get("continue", ""))
            if isinstance(body, int):
                cache.refused(body)
                return
            seen += cache.page(body[: number + 1] if fault == "truncated" else body)
        except WatchEnded:
            pass
        return
    lines = server.watched(parameters)
    if isinstance(lines, int):
        cache.refused(lines)
        return
    at = number % (len(lines) + 1)
    match fault:
        case "reset":
            lines = lines[:at]
        case "truncated" if at < len(lines):
            lines = [*lines[:at], lines[at][: number * 7 % len(lines[at])]]
        case "gone":
            lines = [*lines[:at], event("ERROR", {"code": 410, "message": "too old"})]
        case "unknown":
            lines = [*lines[:at], b'{"type":"SOMETHING","object":{}}']
        case "duplicates":
            lines = [line for each in range(len(lines)) for line in (lines[each], lines[max(0, each - number % 4)])]
        case "reordered" if "sendInitialEvents" not in parameters:
            # What the watch began with is known, so a bookmark of it is true at any time.
            lines = [*lines[at:], bookmark(int(parameters["resourceVersion"])), *lines[:at]]
        case "reordered":
            lines = lines[-2::-1] + lines[-1:]
        case "bookmarked" if at == len(lines) and "sendInitialEvents" not in parameters:
            lines = [*lines, bookmark(server.version)]
    try:
        for line in lines:
            seen += cache.line(line)
    except WatchEnded:
        pass


FAULTS = ("", "reset", "truncated", "gone", "unknown", "duplicates", "reordered", "refused", "bookmarked")

rounds = st.lists(
    st.tuples(
        st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(["1", "2", "bad", None])), max_size=4),
        st.sampled_from(["", "", "", "", "compact", "server restarts", "we restart"]),
        st.sampled_from(FAULTS),
        st.integers(0, 40),
    ),
    max_size=12,
)
"""What is written, what else befalls, and how the next request goes wrong. Some requests before them go well."""


@pytest.mark.parametrize("watch_lists", [True, False], ids=["watch lists", "pages"])
@settings(max_examples=500, deadline=None)
@given(st.integers(0, 3), rounds)
def test_after_any_faults_the_cache_equals_the_servers_state_and_the_changes_add_up_to_it(watch_lists, good, rounds):
    server = Server(watch_lists)
    cache: ListThenWatch[str] = ListThenWatch(decode)
    seen: list[Change[str]] = []

    for _ in range(good):
        one_request(cache, server, "", 0, seen)
    for writes, befalls, fault, number in rounds:
        for name, value in writes:
            server.write(name, value)
        if befalls == "compact":
            server.compact()
        elif befalls == "server restarts":
            server.restart()
        elif befalls == "we restart":
            cache, seen = ListThenWatch(decode), []
        one_request(cache, server, fault, number, seen)
    for _ in range(8):
        one_request(cache, server, "", 0, seen)

    well = {("ns", name): value for name, (_, value) in server.objects.items() if value != "bad"}
    bad = {("ns", name) for name, (_, value) in server.objects.items() if value == "bad"}
    assert cache.synced
    assert cache.values == well
    assert cache.malformed.keys() == bad
    assert added_up(seen) == well


def added_up(changes: list[Change[str]]) -> dict[Name, str]:
    """Each change must start from what the one before it ended with."""
    found: dict[Name, str] = {}
    for change in changes:
        assert found.get(change.name) == change.old
        assert change.old != change.new
        if change.new is None:
            del found[change.name]
        else:
            found[change.name] = change.new
    return found


@settings(max_examples=300)
@given(st.binary(max_size=60) | st.text('{}[]",:01aADE').map(str.encode))
def test_no_line_does_anything_but_end_the_watch(line):
    cache: ListThenWatch[str] = ListThenWatch(decode)
    cache.next_request(60)

    with pytest.raises(WatchEnded):
        cache.line(line)
