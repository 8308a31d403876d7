"""What proxies are asked to do about their own trust domain's authorities. Authorities are named by the SHA-256 fingerprint of their certificate."""

from __future__ import annotations

from isthmus.model.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTrust:
    """A proxy has done its part when it trusts exactly `roots`, holds no certificate that leads to a root in `tainted`, and has accepted one
    that leads to each root in `proved`. All sorted; without roots nothing is asked. When `cut` is another text than before, connections that
    callers have opened before are ended: whoever is still trusted opens new ones. `crl` are revocation lists (PEM): proxies refuse what they name.
    """

    roots: tuple[str, ...] = ()
    tainted: tuple[str, ...] = ()
    proved: tuple[str, ...] = ()
    cut: str = ""
    crl: str = ""


NOTHING_ASKED = OwnTrust()
