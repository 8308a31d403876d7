"""One HTTP/2 connection as its server sees it, without I/O: bytes go in, events and bytes come out (RFC 9113).

What it holds to, whatever the peer sends:

- it never raises, and after a fault it says GOAWAY once and hears nothing more;
- its memory is bounded: one frame, one header block, and one small record for each of at most `streams_max` open streams;
- it never sends more than the peer's windows allow, and takes no more than its own;
- work that costs the peer nothing is rationed: resets, pings, settings, empty frames, continued header blocks.

How the input is cut into pieces makes no difference. The clock is an argument.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

import hpack

from isthmus.xds import frames
from isthmus.xds.frames import (
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES,
    HEAD_BYTES,
    PREFACE,
    WINDOW_DEFAULT,
    WINDOW_MAX,
    Code,
    ConnectionFault,
    Kind,
    Setting,
    StreamFault,
    unpadded,
)
from isthmus.xds.header_blocks import NO_TABLE, Malformed, request_of
from isthmus.xds.http2_events import Event, Received, Requested, Reset
from isthmus.xds.rations import Ration

_STREAM_WINDOW = 256 * 1024
_CONNECTION_WINDOW = 1024 * 1024
_BYTES_PER_NUISANCE = 2048
"""A peer that takes data answers with window updates, of the stream and of the connection, and with pings, to measure the line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one peer may ask for. A ration is a number that may be used at once, and how many come back each second."""

    streams_max: int = 100
    header_bytes_max: int = 32 * 1024
    continuations_max: int = 8
    resets: tuple[int, float] = (100, 10.0)
    nuisances: tuple[int, float] = (1000, 100.0)
    """Frames that ask for work or an answer and carry nothing. What carries something gives one back."""


class _Stream:
    __slots__ = ("owed", "peer_ended", "send_window", "window")

    def __init__(self, send_window: int, *, peer_ended: bool) -> None:
        self.send_window = send_window
        self.window = _STREAM_WINDOW
        self.owed = 0
        """Bytes that were consumed and not given back to the peer's window yet."""
        self.peer_ended = peer_ended


class Connection:
    """`failed` says why the connection has to be closed once `take` has been sent; empty while all is well."""

    __slots__ = (
        "__weakref__",
        "_block",
        "_continuations",
        "_decoder",
        "_first_block",
        "_going_away",
        "_greeted",
        "_input",
        "_last_stream",
        "_limits",
        "_nuisances",
        "_output",
        "_owed",
        "_peer_stream_window",
        "_resets",
        "_send_window",
        "_settled",
        "_streams",
        "_window",
        "failed",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._input = b""
        self._greeted = False
        self._settled = False
        self._decoder = hpack.Decoder(max_header_list_size=limits.header_bytes_max)
        self._streams: dict[int, _Stream] = {}
        self._last_stream = 0
        self._block: tuple[int, int, bytearray] | None = None
        """A header block that is not complete: stream, flags of its first frame, bytes."""
        self._continuations = 0
        self._send_window = WINDOW_DEFAULT
        self._window = _CONNECTION_WINDOW
        self._owed = 0
        self._peer_stream_window = WINDOW_DEFAULT
        self._resets = Ration(limits.resets)
        self._nuisances = Ration(limits.nuisances)
        self._first_block = True
        self._going_away = False
        self.failed = ""
        self._output = bytearray(
            frames.settings(
                {
                    Setting.MAX_CONCURRENT_STREAMS: limits.streams_max,
                    Setting.INITIAL_WINDOW_SIZE: _STREAM_WINDOW,
                    Setting.MAX_HEADER_LIST_SIZE: limits.header_bytes_max,
                }
            )
            + frames.window_update(0, _CONNECTION_WINDOW - WINDOW_DEFAULT)
        )

    # What the shell asks for.

    def receive(self, data: bytes, now: float) -> list[Event]:
        """What the peer's bytes mean."""
        if self.failed:
            return []
        events: list[Event] = []
        try:
            self._read(data, now, events)
        except ConnectionFault as fault:
            self.close(fault.code, str(fault))
            self.failed = str(fault) or fault.code.name
            self._input = b""
        return events

    def take(self) -> bytes:
        """Everything but DATA that is to be sent now: whole frames."""
        if not self._output:
            return b""
        output = bytes(self._output)
        self._output.clear()
        return output

    @property
    def waiting_bytes(self) -> int:
        """What a peer that does not read has made us keep for it."""
        return len(self._output)

    @property
    def open_streams(self) -> int:
        return len(self._streams)

    def window(self, stream: int) -> int:
        """How many bytes may be sent on the stream now; 0 if it is over."""
        state = self._streams.get(stream)
        return 0 if state is None else max(0, min(self._send_window, state.send_window))

    def lend(self, stream: int) -> tuple[int, int]:
        """How many bytes may be sent and taken on the stream, in whole DATA frames, before anything else is asked of this connection. Say `repay`
        then, before that.
        """
        state = self._streams.get(stream)
        if state is None or state.peer_ended or self._input or self._output or self._block is not None or self.failed:
            return 0, 0
        unasked = min(_STREAM_WINDOW // 2 - state.owed, _CONNECTION_WINDOW // 2 - self._owed) - 1
        return min(self._send_window, state.send_window), min(unasked, state.window, self._window)

    def repay(self, stream: int, *, sent: int, frames_sent: int, taken: int, frames_taken: int) -> None:
        """What was used of what was lent. What was taken has been seen to."""
        state = self._streams[stream]
        self._spend(state, sent, frames_sent)
        self._nuisances.give_back(frames_taken)
        self._window -= taken
        state.window -= taken
        self._owed += taken
        state.owed += taken

    def data(self, stream: int, payload: memoryview) -> bytes:
        """The payload in DATA frames. At most `window` bytes."""
        self._spend(self._streams[stream], len(payload))
        return frames.data_frames(stream, payload)

    def respond(self, stream: int, block: bytes) -> None:
        """The response's headers."""
        if stream in self._streams:
            self._output += self._headers_frame(END_HEADERS, stream, block)

    def end(self, stream: int, block: bytes) -> None:
        """The response's trailers, or all of a response without a body. The stream is over, also for a peer that has more to say."""
        state = self._streams.pop(stream, None)
        if state is None:
            return
        self._output += self._headers_frame(END_HEADERS | END_STREAM, stream, block)
        if not state.peer_ended:
            self._output += frames.reset(stream, Code.NO_ERROR)

    def reset(self, stream: int, code: Code) -> None:
        if self._streams.pop(stream, None) is not None:
            self._output += frames.reset(stream, code)

    def consumed(self, stream: int, count: int) -> None:
        """Gives the peer its window back, in large pieces."""
        self._consumed(count)
        state = self._streams.get(stream)
        if state is None or state.peer_ended:
            return
        state.owed += count
        if state.owed >= _STREAM_WINDOW // 2:
            self._output += frames.window_update(stream, state.owed)
            state.window += state.owed
            state.owed = 0

    def ping(self) -> None:
        """Asks for a sign of life."""
        self._output += frames.frame(Kind.PING, 0, 0, b"isthmus\0")

    def close(self, code: Code, message: str = "") -> None:
        """Says that no new stream will be taken. Those that are open may go on, unless the connection is closed."""
        if not self._going_away:
            self._going_away = True
            self._output += frames.go_away(self._last_stream, code, message)

    # Reading.

    def _read(self, data: bytes, now: float, events: list[Event]) -> None:
        buffer = self._input + data if self._input else data
        at = 0
        if not self._greeted:
            if not PREFACE.startswith(buffer[: len(PREFACE)]):
                raise ConnectionFault(Code.PROTOCOL_ERROR, "this is not HTTP/2")
            if len(buffer) < len(PREFACE):
                self._input = buffer
                return
            self._greeted = True
            at = len(PREFACE)
        end = len(buffer)
        while end - at >= HEAD_BYTES:
            length = buffer[at] << 16 | buffer[at + 1] << 8 | buffer[at + 2]
            if length > FRAME_BYTES:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            start = at + HEAD_BYTES
            if end - start < length:
                break
            kind, flags = buffer[at + 3], buffer[at + 4]
            stream = int.from_bytes(buffer[at + 5 : start], "big") & WINDOW_MAX
            at = start + length
            try:
                event = self._frame(kind, flags, stream, buffer[start:at], now)
            except StreamFault as fault:
                event = self._stream_failed(fault, now)
            if event is not None:
                events.append(event)
        self._input = buffer[at:]

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes, now: float) -> Event | None:
        if self._block is not None and (kind != Kind.CONTINUATION or stream != self._block[0]):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a header block was interrupted")
        if not self._settled:
            if kind != Kind.SETTINGS or flags & frames.ACK:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "the first frame must be SETTINGS")
            self._settled = True
        take = _BY_KIND.get(kind)
        if take is not None:
            return take(self, stream, flags, payload, now)
        if kind == Kind.PUSH_PROMISE:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a client cannot push")
        self._nuisance(now)
        return None

    def _data(self, stream: int, flags: int, payload: bytes, now: float) -> Event | None:
        count = len(payload)
        self._window -= count
        if self._window < 0:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "more data than the connection's window")
        state = self._streams.get(stream)
        if state is None:
            self._require_known(stream)
            self._consumed(count)
            self._nuisance(now)
            return None
        if state.peer_ended:
            self._consumed(count)
            raise StreamFault(stream, Code.STREAM_CLOSED, "data after the end of the stream")
        state.window -= count
        if state.window < 0:
            self._consumed(count)
            raise StreamFault(stream, Code.FLOW_CONTROL_ERROR, "more data than the stream's window")
        data = unpadded(flags, payload)
        ended = bool(flags & END_STREAM)
        if ended:
            state.peer_ended = True
        elif data:
            self._nuisances.give_back(1)
        else:
            self._nuisance(now)
        if count != len(data):
            self.consumed(stream, count - len(data))
        return Received(stream, data, ended)

    def _headers(self, stream: int, flags: int, payload: bytes, now: float) -> Event | None:
        if stream % 2 == 0:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a client's streams have odd numbers")
        block = unpadded(flags, payload)
        if flags & frames.HAS_PRIORITY:
            if len(block) < 5:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a priority is five bytes")
            block = block[5:]
        self._block = (stream, flags, bytearray(block))
        self._continuations = 0
        return self._block_complete(now) if flags & END_HEADERS else None

    def _continuation(self, stream: int, flags: int, payload: bytes, now: float) -> Event | None:
        if self._block is None:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "nothing is to be continued")
        self._continuations += 1
        block = self._block[2]
        block += payload
        if self._continuations > self._limits.continuations_max or len(block) > self._limits.header_bytes_max:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "a header block is too long")
        return self._block_complete(now) if flags & END_HEADERS else None

    def _block_complete(self, now: float) -> Event | None:
        """Every block is decoded, also one that is of no use: the table must stay the same on both sides."""
        assert self._block is not None, "called for a block"
        stream, flags, block = self._block
        self._block = None
        try:
            headers = self._decoder.decode(bytes(block), raw=True)
        except hpack.OversizedHeaderListError:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "the headers are too long") from None
        except (hpack.HPACKError, ValueError, IndexError) as error:
            raise ConnectionFault(Code.COMPRESSION_ERROR, f"headers cannot be decoded: {error}") from None
        ended = bool(flags & END_STREAM)
        if stream <= self._last_stream:
            return self._trailers(stream, ended, now)
        self._last_stream = stream
        if self._going_away or len(self._streams) >= self._limits.streams_max:
            self._ration_resets(now)
            self._output += frames.reset(stream, Code.REFUSED_STREAM)
            return None
        try:
            request = request_of((bytes(name), bytes(value)) for name, value, *_ in headers)
        except Malformed:
            self._ration_resets(now)
            self._output += frames.reset(stream, Code.PROTOCOL_ERROR)
            return None
        self._streams[stream] = _Stream(self._peer_stream_window, peer_ended=ended)
        return Requested(stream, request, ended)

    def _trailers(self, stream: int, ended: bool, now: float) -> Event | None:
        state = self._streams.get(stream)
        if state is None:
            self._nuisance(now)
            return None
        if not ended or state.peer_ended:
            raise StreamFault(stream, Code.PROTOCOL_ERROR, "headers in the middle of a stream")
        state.peer_ended = True
        return Received(stream, b"", True)

    def _priority(self, stream: int, flags: int, payload: bytes, now: float) -> None:
        if len(payload) != 5 or stream == 0:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a priority is five bytes, of a stream")
        self._nuisance(now)

    def _rst_stream(self, stream: int, flags: int, payload: bytes, now: float) -> Event | None:
        if len(payload) != 4:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a reset is four bytes")
        self._require_known(stream)
        self._ration_resets(now)
        if self._streams.pop(stream, None) is None:
            return None
        return Reset(stream, int.from_bytes(payload, "big"))

    def _settings(self, stream: int, flags: int, payload: bytes, now: float) -> None:
        if stream != 0:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "settings belong to the connection")
        if len(payload) % 6 or (flags & frames.ACK and payload):
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a setting is six bytes")
        if flags & frames.ACK:
            return
        self._nuisance(now)
        for key, value in struct.iter_unpack(">HL", payload):
            self._setting(key, value)
        self._output += frames.frame(Kind.SETTINGS, frames.ACK, 0)

    def _setting(self, key: int, value: int) -> None:
        if key == Setting.INITIAL_WINDOW_SIZE:
            if value > WINDOW_MAX:
                raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "a window larger than windows can be")
            more = value - self._peer_stream_window
            self._peer_stream_window = value
            for state in self._streams.values():
                state.send_window += more
                if state.send_window > WINDOW_MAX:
                    raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "a window larger than windows can be")
        elif key == Setting.MAX_FRAME_SIZE:
            if not FRAME_BYTES <= value < 2**24:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "no such frame size")
        elif key == Setting.ENABLE_PUSH and value > 1:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "push is on or off")

    def _ping(self, stream: int, flags: int, payload: bytes, now: float) -> None:
        if stream != 0:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a ping belongs to the connection")
        if len(payload) != 8:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a ping is eight bytes")
        self._nuisance(now)
        if not flags & frames.ACK:
            self._output += frames.frame(Kind.PING, frames.ACK, 0, payload)

    def _goaway(self, stream: int, flags: int, payload: bytes, now: float) -> None:
        """The peer opens no more streams; those that are open go on."""
        if stream != 0:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "going away is the connection's")
        if len(payload) < 8:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "GOAWAY is eight bytes at least")
        self._nuisance(now)

    def _window_update(self, stream: int, flags: int, payload: bytes, now: float) -> None:
        if len(payload) != 4:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a window update is four bytes")
        more = int.from_bytes(payload, "big") & WINDOW_MAX
        self._nuisance(now)
        if stream == 0:
            self._send_window += more
            if more == 0 or self._send_window > WINDOW_MAX:
                raise ConnectionFault(Code.FLOW_CONTROL_ERROR if more else Code.PROTOCOL_ERROR, "a wrong window")
            return
        self._require_known(stream)
        state = self._streams.get(stream)
        if state is None:
            return
        state.send_window += more
        if more == 0 or state.send_window > WINDOW_MAX:
            raise StreamFault(stream, Code.FLOW_CONTROL_ERROR if more else Code.PROTOCOL_ERROR, "a wrong window")

    # What several of these need.

    def _stream_failed(self, fault: StreamFault, now: float) -> Event | None:
        self._ration_resets(now)
        if self._streams.pop(fault.stream, None) is None:
            return None
        self._output += frames.reset(fault.stream, fault.code)
        return Reset(fault.stream, fault.code)

    def _require_known(self, stream: int) -> None:
        if stream == 0 or stream % 2 == 0 or stream > self._last_stream:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"stream {stream} was never opened")

    def _spend(self, state: _Stream, count: int, parts: int = 1) -> None:
        state.send_window -= count
        self._send_window -= count
        self._nuisances.give_back(2 * parts + count // _BYTES_PER_NUISANCE)

    def _consumed(self, count: int) -> None:
        self._owed += count
        if self._owed >= _CONNECTION_WINDOW // 2:
            self._output += frames.window_update(0, self._owed)
            self._window += self._owed
            self._owed = 0

    def _nuisance(self, now: float) -> None:
        if not self._nuisances.take(now):
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "too many frames that carry nothing")

    def _ration_resets(self, now: float) -> None:
        if not self._resets.take(now):
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "too many streams were reset")

    def _headers_frame(self, flags: int, stream: int, block: bytes) -> bytes:
        if self._first_block:
            self._first_block = False
            block = NO_TABLE + block
        assert len(block) <= FRAME_BYTES, "our own blocks are short"
        return frames.frame(Kind.HEADERS, flags, stream, block)


_BY_KIND: dict[int, Callable[[Connection, int, int, bytes, float], Event | None]] = {
    Kind.DATA: Connection._data,
    Kind.HEADERS: Connection._headers,
    Kind.PRIORITY: Connection._priority,
    Kind.RST_STREAM: Connection._rst_stream,
    Kind.SETTINGS: Connection._settings,
    Kind.PING: Connection._ping,
    Kind.GOAWAY: Connection._goaway,
    Kind.WINDOW_UPDATE: Connection._window_update,
    Kind.CONTINUATION: Connection._continuation,
}
