"""How far a remote cluster can be believed while its API server does not answer: its state, and what becomes of its endpoints. No clock.

Three policies, of which the operator chooses one: `hold` keeps the endpoints as they were last seen; `demote` has them come after all
others once they are older than a while; `withdraw` takes them away after a longer while. Proxies of the lost cluster itself are spared:
they are nearer to those endpoints than we are, and have no others there.
"""

from __future__ import annotations

from dataclasses import dataclass

from isthmus.model.topology import Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class StalePolicy:
    """Ages in seconds; None is never. The default holds."""

    demote_after: float | None = None
    withdraw_after: float | None = None

    def standing(self, age_seconds: float) -> Standing:
        """Of a cluster that has been heard of last so long ago."""
        if self.withdraw_after is not None and age_seconds >= self.withdraw_after:
            return Standing.WITHDRAWN
        if self.demote_after is not None and age_seconds >= self.demote_after:
            return Standing.DEMOTED
        return Standing.FULL


HOLD = StalePolicy()
