"""A real handshake with the agent's own Envoy: does it let in who shows this certificate? And with what gRPC reads, for who has no Envoy."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime
from pathlib import Path

from isthmus.agent.certificates import Certificate
from isthmus.envoy.bootstrap import PROOF_PATH
from isthmus.trust.verification import verified_identity
from isthmus.trust.x509 import BadCertificate, parse_certificates
from isthmus.xds.native_tls import load_key

_SECONDS = 5.0
_REQUEST = f"GET {PROOF_PATH} HTTP/1.1\r\nhost: proof\r\nconnection: close\r\n\r\n".encode()


async def shown_to_envoy(socket: Path, shown: Certificate, roots_pem: str) -> str:
    """Why Envoy does not let it in, or nothing. Envoy is checked, too, against our roots: a handshake has two sides."""
    try:
        async with asyncio.timeout(_SECONDS):
            reader, writer = await asyncio.open_unix_connection(
                str(socket), ssl=_context(shown, roots_pem), server_hostname=""
            )
            try:
                writer.write(_REQUEST)
                said = await reader.readline()
            finally:
                writer.close()
    except TimeoutError:
        return f"Envoy did not answer in {_SECONDS:g} s"
    except OSError as error:
        return f"Envoy refused: {error}"
    return "" if said.split()[1:2] == [b"200"] else "Envoy refused the certificate"


def verified_by_files(shown: Certificate, roots_pem: str) -> str:
    """For an application without an Envoy, which reads the same roots from files: whether they vouch for the certificate."""
    try:
        trusted = {shown.identity.trust_domain: parse_certificates(roots_pem)}
        verified_identity(shown.chain_pem, trusted, datetime.now(UTC))
    except BadCertificate as error:
        return str(error)
    return ""


def _context(shown: Certificate, roots_pem: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=roots_pem)
    context.check_hostname = False
    load_key(context, chain_pem=shown.chain_pem, key_pem=shown.key_pem)
    return context
