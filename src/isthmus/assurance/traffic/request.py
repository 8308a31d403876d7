"""A request as a proxy meets it, and everything that Envoy's matchers may look at in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from typing import Any

from isthmus.model.values import dataclass


class Tls(StrEnum):
    """How the connection begins: plaintext, an application's own TLS, or mutual TLS with an identity."""

    NONE = "none"
    TLS = "tls"
    MUTUAL = "mtls"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """`address` and `port` are where the connection was sent. `host` is the authority, `alpn` what a TLS client offers.

    `is_http` off means bytes of which nothing is known. `caller` is the identity that mutual TLS proves, `source` the address it comes
    from. `claims` are those of a token that was found valid.
    """

    port: int
    address: str = ""
    host: str = ""
    path: str = "/"
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    tls: Tls = Tls.NONE
    sni: str = ""
    alpn: tuple[str, ...] = ()
    is_http: bool = True
    caller: str = ""
    source: str = ""
    claims: Mapping[str, Any] = field(default_factory=dict)

    def all_headers(self) -> dict[str, str]:
        """With the ones that HTTP/2 has for the request itself. Names are in lower case."""
        own = {":method": self.method, ":path": self.path, ":authority": self.host or self.address, ":scheme": "http"}
        return own | {name.lower(): value for name, value in self.headers}
