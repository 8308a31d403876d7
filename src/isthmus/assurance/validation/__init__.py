"""Whether an object says something that a mesh can do: first its shape, then its meaning."""

from __future__ import annotations

from isthmus.assurance.validation.validating import validate, validate_mesh

__all__ = ["validate", "validate_mesh"]
