"""HTTP/2 without sockets: h2's client talks to our server's side; then peers that keep no rule."""

from __future__ import annotations

import itertools
import struct

import h2.config
import h2.connection
import h2.events
import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.xds import frames
from isthmus.xds.calls import HEADERS, trailers
from isthmus.xds.frames import PREFACE, Code, Kind, Setting, frame
from isthmus.xds.http2 import Connection, Limits
from isthmus.xds.http2_events import Event, Received, Requested, Reset

CALL = [
    (":method", "POST"),
    (":scheme", "https"),
    (":path", "/service/method"),
    (":authority", "istiod"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
]
HELLO = PREFACE + frames.settings({})


def block(headers=CALL) -> bytes:
    return hpack.Encoder().encode(headers)


def request(stream: int = 1, flags: int = frames.END_HEADERS, headers=CALL) -> bytes:
    return frame(Kind.HEADERS, flags, stream, block(headers))


def greeted(more: bytes = b"") -> tuple[Connection, list[Event]]:
    connection = Connection(Limits())
    events = connection.receive(HELLO + more, 0.0)
    return connection, events


def client() -> h2.connection.H2Connection:
    other = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
    other.initiate_connection()
    return other


def exchange(server: Connection, other: h2.connection.H2Connection) -> tuple[list[Event], list[h2.events.Event]]:
    """Carries what both have to say, once each way; h2 raises if we break the protocol."""
    ours = server.receive(other.data_to_send(), 0.0)
    return ours, other.receive_data(server.take())


def test_a_call_from_its_headers_to_its_trailers():
    server, other = Connection(Limits()), client()
    other.send_headers(1, CALL)
    other.send_data(1, b"question")
    asked, _ = exchange(server, other)
    server.respond(1, HEADERS)
    answer = other.receive_data(server.take() + server.data(1, memoryview(b"answer")))
    server.end(1, trailers("NOT_FOUND", "no ☃ here", alone=False))
    answer += other.receive_data(server.take())

    assert [type(event) for event in asked] == [Requested, Received]
    assert (asked[0].request.method, asked[0].request.path) == ("POST", "/service/method")
    assert asked[0].request.metadata == {"te": "trailers", "content-type": "application/grpc"}
    assert asked[1] == Received(1, b"question", False)
    headers, data, ending, *_ = [e for e in answer if not isinstance(e, h2.events.WindowUpdated)]
    assert dict(headers.headers) == {":status": "200", "content-type": "application/grpc"}
    assert data.data == b"answer"
    assert dict(ending.headers) == {"grpc-status": "5", "grpc-message": "no %E2%98%83 here"}
    assert server.failed == ""


@pytest.mark.parametrize("window", [100, 1000, 65_535, 2**28])
def test_what_the_peers_window_does_not_allow_is_not_sent(window):
    server, other = Connection(Limits()), client()
    other.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
    other.send_headers(1, CALL)
    exchange(server, other)
    server.respond(1, HEADERS)
    other.receive_data(server.take())
    whole = bytes(range(256)) * 400
    got = b""
    while len(got) < len(whole):
        room = server.window(1)
        assert room > 0, "the peer has opened its window again"
        piece = memoryview(whole)[len(got) : len(got) + room]
        for event in other.receive_data(server.data(1, piece)):
            if isinstance(event, h2.events.DataReceived):
                got += event.data
                other.increment_flow_control_window(len(event.data), 1)
                other.increment_flow_control_window(len(event.data))
        exchange(server, other)

    assert server.failed == ""
    assert got == whole


def test_a_window_that_shrinks_below_what_was_sent_is_waited_for():
    server, _ = greeted(request())
    server.data(1, memoryview(bytes(60_000)))
    server.receive(frames.settings({Setting.INITIAL_WINDOW_SIZE: 10}), 0.0)
    before = server.window(1)
    server.receive(frames.window_update(1, 60_000) + frames.window_update(0, 60_000), 0.0)

    assert (before, server.window(1)) == (0, 10)


def test_the_peers_window_is_given_back_as_data_is_used():
    server, _ = greeted(request())
    server.take()
    data = frame(Kind.DATA, 0, 1, bytes(16_384))
    for _ in range(200):
        [received] = server.receive(data, 0.0)
        server.consumed(1, len(received.data))

    assert server.failed == ""


def test_what_is_lent_counts_as_if_each_frame_had_been_seen():
    """The same frames, one way and the other: windows, and what is said about them, are the same afterwards."""
    lent, seen = greeted(request())[0], greeted(request())[0]
    frame = frames.frame(Kind.DATA, 0, 1, b"x" * 1000)
    said: dict[Connection, bytes] = {lent: lent.take(), seen: seen.take()}
    for _ in range(15):
        may_send, may_take = lent.lend(1)
        assert may_send >= 3 * 700
        assert may_take >= 20 * 1000
        lent.repay(1, sent=3 * 700, frames_sent=3, taken=20 * 1000, frames_taken=20)
        for _ in range(3):
            seen.data(1, memoryview(bytes(700)))
        for _ in range(20):
            seen.receive(frame, 0.0)
            seen.consumed(1, 1000)
        for each in (lent, seen):
            each.receive(frame, 0.0)
            each.consumed(1, 1000)
            said[each] += each.take()
            if each.lend(1)[1] < 20 * 1000:  # The rest of a window is used up in the usual way.
                for _ in range(20):
                    each.receive(frame, 0.0)
                    each.consumed(1, 1000)
                said[each] += each.take()
    assert said[lent] == said[seen]
    assert lent.lend(1) == seen.lend(1)
    assert lent.window(1) == 65_535 - 15 * 3 * 700


def test_what_was_lent_is_never_more_than_the_windows_allow():
    server = greeted(request())[0]
    server.take()
    assert server.lend(1)[0] == 65_535
    server.receive(frames.settings({Setting.INITIAL_WINDOW_SIZE: 500}), 0.0)
    server.take()
    assert server.lend(1)[0] == 500
    taken = server.lend(1)[1]
    server.repay(1, sent=500, frames_sent=1, taken=taken, frames_taken=8)
    assert server.lend(1) == (0, 0)
    assert server.take() == b"", "nothing is owed yet"


@pytest.mark.parametrize(
    "before",
    [
        b"\0",
        request(3, 0),
        frames.frame(Kind.DATA, frames.END_STREAM, 1, b""),
        frames.frame(Kind.RST_STREAM, 0, 1, bytes(4)),
        frames.frame(Kind.PING, 0, 0, bytes(8)),
        frames.window_update(0, 0),
    ],
    ids=["in a frame", "in a header block", "after its end", "after a reset", "with an answer due", "failed"],
)
def test_nothing_is_lent_where_something_else_comes_first(before):
    server = greeted(request())[0]
    server.take()
    server.receive(before, 0.0)

    assert server.lend(1) == (0, 0)


def test_a_peer_that_overruns_our_window_loses_the_stream():
    server, _ = greeted(request())
    data = frame(Kind.DATA, 0, 1, bytes(16_384))
    events = [event for _ in range(17) for event in server.receive(data, 0.0)]

    assert events[-1] == Reset(1, Code.FLOW_CONTROL_ERROR)
    assert server.failed == ""


def test_header_blocks_may_be_continued_and_padded():
    encoded = block()
    padded = bytes((3,)) + bytes(5) + encoded[:10] + bytes(3)
    server, events = greeted(
        frame(Kind.HEADERS, frames.PADDED | frames.HAS_PRIORITY, 1, padded)
        + frame(Kind.CONTINUATION, 0, 1, encoded[10:20])
        + frame(Kind.CONTINUATION, frames.END_HEADERS, 1, encoded[20:])
    )

    assert [event.request.path for event in events] == ["/service/method"]
    assert server.failed == ""


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "this is not HTTP/2"),
        (PREFACE + frame(Kind.PING, 0, 0, bytes(8)), "the first frame must be SETTINGS"),
        (HELLO + frame(Kind.DATA, 0, 0, b"x"), "never opened"),
        (HELLO + frame(Kind.DATA, 0, 7, b"x"), "never opened"),
        (HELLO + frame(Kind.RST_STREAM, 0, 1, bytes(4)), "never opened"),
        (HELLO + frame(Kind.WINDOW_UPDATE, 0, 1, b"\0\0\0\1"), "never opened"),
        (HELLO + frame(Kind.HEADERS, frames.END_HEADERS, 2, block()), "odd numbers"),
        (HELLO + frame(Kind.HEADERS, 0, 1, block()) + frame(Kind.PING, 0, 0, bytes(8)), "was interrupted"),
        (HELLO + frame(Kind.CONTINUATION, 0, 1, b""), "nothing is to be continued"),
        (HELLO + frame(Kind.HEADERS, frames.END_HEADERS, 1, b"\xff\xff\xff\xff\xff"), "cannot be decoded"),
        (HELLO + frame(Kind.HEADERS, frames.END_HEADERS | frames.PADDED, 1, b"\x09abc"), "more padding"),
        (HELLO + frames.head(Kind.DATA, 0, 1, 16_385), "a frame of 16385 bytes"),
        (HELLO + frame(Kind.SETTINGS, 0, 0, b"12345"), "a setting is six bytes"),
        (HELLO + frames.settings({Setting.INITIAL_WINDOW_SIZE: 2**31}), "larger than windows can be"),
        (HELLO + frames.settings({Setting.MAX_FRAME_SIZE: 100}), "no such frame size"),
        (HELLO + frames.settings({Setting.ENABLE_PUSH: 2}), "push is on or off"),
        (HELLO + frame(Kind.PING, 0, 0, bytes(7)), "a ping is eight bytes"),
        (HELLO + frames.window_update(0, 0), "a wrong window"),
        (HELLO + frames.window_update(0, 2**31 - 1), "a wrong window"),
        (HELLO + frame(Kind.PUSH_PROMISE, 0, 1, bytes(8)), "a client cannot push"),
        (HELLO + frame(Kind.GOAWAY, 0, 0, bytes(4)), "eight bytes at least"),
        (HELLO + frame(Kind.PRIORITY, 0, 1, bytes(4)), "a priority is five bytes"),
    ],
)
def test_a_peer_that_breaks_a_rule_of_the_connection_is_told_and_heard_no_more(sent, said):
    server = Connection(Limits())
    server.receive(sent, 0.0)
    output = server.take()
    later = server.receive(HELLO + request(), 0.0)

    assert said in server.failed
    assert bytes((Kind.GOAWAY,)) in output
    assert said.encode()[:20] in output
    assert (later, server.take()) == ([], b"")


@pytest.mark.parametrize(
    "headers",
    [
        [*CALL, (":path", "/again")],
        [("a", "b"), *CALL],
        CALL[1:],
        [*CALL, ("Upper", "case")],
        [*CALL, ("connection", "close")],
        [*CALL, ("te", "gzip")],
        [*CALL, ("bad", "a\r\nb: c")],
        [*CALL, (":status", "200")],
        [(":method", "POST"), (":scheme", "https"), (":path", "")],
    ],
)
def test_a_request_that_is_malformed_costs_its_stream_alone(headers):
    encoded = hpack.Encoder().encode(headers)
    server, events = greeted(frame(Kind.HEADERS, frames.END_HEADERS, 1, encoded))
    refused = server.take()
    after = server.receive(frame(Kind.HEADERS, frames.END_HEADERS, 3, block()), 0.0)

    assert events == []
    assert frames.reset(1, Code.PROTOCOL_ERROR) in refused
    assert [event.stream for event in after] == [3]


@pytest.mark.parametrize(
    "each",
    [
        frame(Kind.PING, 0, 0, bytes(8)),
        frames.settings({}),
        frame(Kind.PRIORITY, 0, 1, bytes(5)),
        frame(Kind.DATA, 0, 1),
        frames.window_update(1, 1),
        frame(99, 0, 1, b"whatever"),
        frame(Kind.GOAWAY, 0, 0, bytes(8)),
    ],
)
def test_a_flood_of_frames_that_carry_nothing_ends_the_connection(each):
    server, _ = greeted(request())
    heard = 0
    while not server.failed and heard < 5000:
        server.receive(each, 0.0)
        heard += 1

    assert server.failed == "too many frames that carry nothing"
    assert heard < 1010


def test_a_ping_now_and_then_is_answered_for_ever():
    server, _ = greeted()
    server.take()
    answers = 0
    for second in range(3000):
        server.receive(frame(Kind.PING, 0, 0, b"12345678"), float(second))
        answers += server.take() == frame(Kind.PING, frames.ACK, 0, b"12345678")

    assert answers == 3000


def test_streams_that_are_reset_as_fast_as_they_are_opened_end_the_connection():
    server, _ = greeted()
    opened = 0
    for number in range(1, 2001, 2):
        opened += bool(server.receive(request(number), 0.0))
        server.receive(frames.reset(number, Code.CANCEL), 0.0)
        assert server.open_streams <= 1
        if server.failed:
            break

    assert server.failed == "too many streams were reset"
    assert opened <= 101


def test_more_streams_than_may_be_open_are_refused_one_by_one():
    limits = Limits(streams_max=2)
    server = Connection(limits)
    events = server.receive(HELLO + request(1) + request(3) + request(5), 0.0)
    output = server.take()

    assert [event.stream for event in events] == [1, 3]
    assert frames.reset(5, Code.REFUSED_STREAM) in output


def test_header_blocks_without_end_are_cut_off():
    server, _ = greeted(frame(Kind.HEADERS, 0, 1, block()))
    sent = 0
    while not server.failed and sent < 1000:
        server.receive(frame(Kind.CONTINUATION, 0, 1, b"\x00" * 10), 0.0)
        sent += 1

    assert server.failed == "a header block is too long"
    assert sent < 10


def test_a_small_block_that_unpacks_to_much_is_refused():
    """One long value in the table, named again and again by a single byte."""
    bomb = hpack.Encoder().encode([*CALL, ("cookie", "x" * 3000)]) + b"\xbe" * 10_000
    server, events = greeted(frame(Kind.HEADERS, frames.END_HEADERS, 1, bomb))

    assert events == []
    assert server.failed == "the headers are too long"


def test_what_comes_for_a_stream_that_is_over_is_passed_over():
    server, _ = greeted(request())
    server.end(1, trailers("OK", alone=True))
    events = server.receive(frame(Kind.DATA, 0, 1, b"late") + frames.window_update(1, 5), 0.0)
    events += server.receive(frames.reset(1, Code.CANCEL), 0.0)

    assert events == []
    assert server.failed == ""


def test_going_away_takes_no_new_streams_and_keeps_the_open_ones():
    server, _ = greeted(request(1))
    server.close(Code.NO_ERROR, "stopping")
    events = server.receive(request(3) + frame(Kind.DATA, 0, 1, b"still here"), 0.0)

    assert events == [Received(1, b"still here", False)]
    assert frames.reset(3, Code.REFUSED_STREAM) in server.take()


VALID = (
    HELLO
    + request(1)
    + frame(Kind.DATA, 0, 1, b"\0\0\0\0\5hello")
    + frame(Kind.PING, 0, 0, b"pingping")
    + frames.settings({Setting.INITIAL_WINDOW_SIZE: 100, Setting.MAX_FRAME_SIZE: 20_000})
    + frames.window_update(0, 70_000)
    + request(3, frames.END_HEADERS | frames.END_STREAM)
    + frames.window_update(1, 200)
    + frames.reset(3, Code.CANCEL)
    + frame(Kind.DATA, frames.END_STREAM, 1, b"")
)


@given(st.lists(st.integers(0, len(VALID)), max_size=40))
@settings(max_examples=200, deadline=None)
def test_it_makes_no_difference_how_the_input_is_cut(cuts):
    whole = Connection(Limits())
    expected = whole.receive(VALID, 1.0)
    pieces = Connection(Limits())
    places = [0, *sorted(cuts), len(VALID)]
    found = [event for start, end in itertools.pairwise(places) for event in pieces.receive(VALID[start:end], 1.0)]

    assert found == expected
    assert pieces.take() == whole.take()
    assert (pieces.failed, whole.failed) == ("", "")


_FRAMES = st.builds(
    frame,
    st.integers(0, 12),
    st.integers(0, 255),
    st.sampled_from([0, 1, 1, 1, 2, 3, 5, 2**31 - 1]),
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from([block(), bytes(8), bytes(5), struct.pack(">L", 2**31 - 1), struct.pack(">HL", 4, 2**31 - 1)]),
    ),
)
_MUTATED = st.builds(
    lambda at, change: VALID[:at] + change + VALID[at + len(change) :],
    st.integers(0, len(VALID)),
    st.binary(max_size=6),
)


@given(st.one_of(st.lists(_FRAMES, max_size=30).map(lambda found: HELLO + b"".join(found)), _MUTATED, st.binary()))
@settings(max_examples=600, deadline=None)
def test_whatever_comes_nothing_is_raised_and_memory_is_bounded(sent):
    server = Connection(Limits())
    known: set[int] = set()
    for start in range(0, len(sent), 37):
        for event in server.receive(sent[start : start + 37], 0.0):
            match event:
                case Requested(stream, _, _):
                    assert stream not in known
                    known.add(stream)
                case Received(stream, data, _):
                    assert stream in known
                    server.consumed(stream, len(data))
                case Reset(stream, _):
                    known.remove(stream)
            if event.stream in known and (room := server.window(event.stream)):
                server.respond(event.stream, HEADERS)
                server.data(event.stream, memoryview(bytes(min(room, 100))))
        assert server.open_streams <= Limits().streams_max
        assert len(server.take()) < 100_000
    if server.failed:
        assert server.receive(HELLO, 0.0) == []


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=10))
@settings(max_examples=200, deadline=None)
def test_what_we_send_is_what_another_implementation_reads(body, cuts):
    server, other = Connection(Limits()), client()
    other.send_headers(1, CALL)
    exchange(server, other)
    server.respond(1, HEADERS)
    places = [0, *sorted(cut for cut in cuts if cut <= len(body)), len(body)]
    sent = b"".join(
        server.take() + server.data(1, memoryview(body)[start:end]) for start, end in itertools.pairwise(places)
    )
    server.end(1, trailers("OK", alone=False))
    seen = other.receive_data(sent + server.take())

    assert b"".join(event.data for event in seen if isinstance(event, h2.events.DataReceived)) == body
    assert any(isinstance(event, h2.events.StreamEnded) for event in seen)
