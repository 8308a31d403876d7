"""What an agent says of its application's health, on the stream on which it is configured: a request of a type that nobody answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

HEALTH = "type.googleapis.com/istio.v1.HealthInformation"


@dataclass(frozen=True, slots=True)
class HealthReport:
    """`message` says why it is not healthy."""

    healthy: bool
    message: str = ""


def health_in(request: Any) -> HealthReport | None:
    """None for a request of any other type. An error in it is the application's, not one of configuration."""
    if request.type_url != HEALTH:
        return None
    if request.HasField("error_detail"):
        return HealthReport(healthy=False, message=request.error_detail.message)
    return HealthReport(healthy=True)
