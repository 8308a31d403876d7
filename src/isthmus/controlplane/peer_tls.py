"""TLS between control planes of two meshes: each shows the identity that its own mesh's authority gives it, and believes the other's authority
about the other's trust domain alone.

Every connection is judged by the authorities of one trust domain, never by a pool of several: an asker says in SNI which mesh it is, and is
judged by that one's bundle.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from isthmus.model.federation import domain_of
from isthmus.model.identity import SpiffeId
from isthmus.model.names import MeshId
from isthmus.peering.messages import APPLICATION_PROTOCOL
from isthmus.trust.authority import Authority
from isthmus.xds.native_tls import load_key

LIFETIME = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Proof:
    """What a control plane shows of itself."""

    chain_pem: str
    key_pem: str

    @staticmethod
    def of(identity: SpiffeId, authority: Authority) -> Proof:
        """For a day."""
        own = authority.own_certificate(identity, datetime.now(UTC), LIFETIME)
        return Proof(own.chain_pem, own.key_pem)

    def __repr__(self) -> str:
        """Without the key: this value may end up in a log."""
        return "Proof(…)"


def server_name(asker: MeshId, teller: MeshId) -> str:
    """What an asker says in SNI: who asks whom."""
    return f"{asker}.{domain_of(teller)}"


def asker_in(name: str, teller: MeshId) -> MeshId | None:
    """Who asks, if it is this mesh that is asked."""
    asker, _, asked = name.partition(".")
    return MeshId(asker) if asked == domain_of(teller) else None


def asking(proof: Proof, authorities: Sequence[bytes]) -> ssl.SSLContext:
    """Whom the other one has to be is asked of `svid.proven`: names of hosts prove nothing here."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    return _mutual(context, proof, authorities)


def telling(proof: Proof, authorities: Sequence[bytes]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # Whoever was judged by other authorities before is judged anew.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    return _mutual(context, proof, authorities)


def _mutual(context: ssl.SSLContext, proof: Proof, authorities: Sequence[bytes]) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([APPLICATION_PROTOCOL])
    context.verify_mode = ssl.CERT_REQUIRED
    # An authority of a bundle is trusted as it is, whoever signed it.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    load_key(context, chain_pem=proof.chain_pem, key_pem=proof.key_pem)
    if authorities:
        context.load_verify_locations(cadata=b"".join(authorities))
    return context
