"""Whether an object says something that a mesh can do: first its shape, then its meaning."""

from __future__ import annotations

from isthmus.assurance.validation.validating import (
    has_known_types,
    known_kinds,
    normalized,
    problems_of,
    validate,
    validate_mesh,
    verdict,
)

__all__ = ["has_known_types", "known_kinds", "normalized", "problems_of", "validate", "validate_mesh", "verdict"]
