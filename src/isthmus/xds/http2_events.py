"""What a peer's bytes meant: the events of `http2.Connection`."""

from __future__ import annotations

from typing import NamedTuple

from isthmus.xds.header_blocks import Request


class Requested(NamedTuple):
    """A new stream. `ended`: the peer will send nothing more on it."""

    stream: int
    request: Request
    ended: bool


class Received(NamedTuple):
    """Say `consumed` when the data has been used; until then it counts against the peer's window."""

    stream: int
    data: bytes
    ended: bool


class Reset(NamedTuple):
    """The stream is over: the peer has reset it, or we had to. Nothing may be sent on it any more."""

    stream: int
    code: int


Event = Requested | Received | Reset
