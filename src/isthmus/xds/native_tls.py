"""TLS as the native transport serves it."""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Iterator
from enum import Enum


class ClientCertificate(Enum):
    """What is asked of a client. One that it shows must always be of the given roots."""

    NOT_ASKED_FOR = ssl.CERT_NONE
    WELCOME = ssl.CERT_OPTIONAL
    DEMANDED = ssl.CERT_REQUIRED


def server_context(
    *, chain_pem: str, key_pem: str, roots_pem: str, client: ClientCertificate, crl_pem: str = ""
) -> ssl.SSLContext:
    """TLS 1.2 or newer, HTTP/2 only.

    Raises ssl.SSLError for what is no certificate, or a key of another.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    context.set_alpn_protocols(["h2"])
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    # Nobody resumes a session with us, and a ticket costs two writes and the client a read.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    load_key(context, chain_pem=chain_pem, key_pem=key_pem)
    context.verify_mode = ssl.VerifyMode(client.value)
    if client is not ClientCertificate.NOT_ASKED_FOR:
        context.load_verify_locations(cadata=roots_pem)
    if crl_pem and client is not ClientCertificate.NOT_ASKED_FOR:
        with _path_of(crl_pem) as path:
            context.load_verify_locations(cafile=path)
        context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_CHAIN
    return context


@contextlib.contextmanager
def _path_of(text: str) -> Iterator[str]:
    held = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        os.write(held, text.encode())
        yield f"/proc/self/fd/{held}"
    finally:
        os.close(held)


def load_key(context: ssl.SSLContext, *, chain_pem: str, key_pem: str) -> None:
    """What we show. The key goes through memory alone: OpenSSL wants a path, and gets one that no disk has. Raises ssl.SSLError."""
    with _path_of(f"{key_pem}\n{chain_pem}") as path:
        context.load_cert_chain(path)
