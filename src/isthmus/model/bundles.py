"""Where other trust domains publish their bundles, and what was found there."""

from __future__ import annotations

from enum import Enum
from urllib.parse import urlsplit

from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.model.values import dataclass


class Profile(Enum):
    """How an endpoint proves that it is the one that is meant (SPIFFE Federation, section 5.2)."""

    WEB = "https_web"
    SPIFFE = "https_spiffe"


@dataclass(frozen=True, slots=True, order=True)
class BundleEndpoint:
    """Whose bundle is where. `identity` is that of the server, for the profile `https_spiffe`."""

    trust_domain: TrustDomain
    url: str
    identity: SpiffeId | None

    @staticmethod
    def parse(trust_domain: TrustDomain, url: str, profile: str, identity: str) -> BundleEndpoint:
        """Raises ValueError, saying which parameter breaks sections 5.2.1.1, 5.2.2.1 or 5.2.2.2."""
        try:
            asked = Profile(profile or Profile.WEB.value)
        except ValueError:
            raise ValueError(f"profile {profile!r} is neither https_web nor https_spiffe") from None
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            raise ValueError(f"{url!r} is not an endpoint: its scheme has to be https")
        if parts.username is not None or parts.password is not None:
            raise ValueError("the endpoint's URL contains a user name or a password")
        if asked is Profile.WEB and identity:
            raise ValueError("identity is for the profile https_spiffe: https_web goes by the host's name")
        if asked is Profile.SPIFFE and not identity:
            raise ValueError("the profile https_spiffe needs the identity of the endpoint")
        return BundleEndpoint(trust_domain, url, SpiffeId.parse(identity) if identity else None)

    @property
    def profile(self) -> Profile:
        return Profile.WEB if self.identity is None else Profile.SPIFFE

    @property
    def vouching(self) -> TrustDomain | None:
        """The trust domain whose authorities vouch for the server; None: the web's."""
        return self.identity.trust_domain if self.identity is not None else None
