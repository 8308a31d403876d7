"""Quotas: how much one namespace may add to what all others are given."""

from __future__ import annotations

from collections.abc import Mapping

from isthmus.model.names import Namespace
from isthmus.model.values import dataclass

Allowances = Mapping[str, Mapping[Namespace, int]]
"""How many there may be: by resource (`virtualservices`), then by namespace. What is not in it has no bound."""


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class QuotaUse:
    """`used` may be more than `allowed`: the youngest of them are then not what others are given."""

    namespace: Namespace
    resource: str
    used: int
    allowed: int
