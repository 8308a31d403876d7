"""Rations: how much a peer may ask for that costs it nothing."""

from __future__ import annotations


class Ration:
    """So many at once, so many more each second."""

    __slots__ = ("_at", "_each_second", "_left", "_most")

    def __init__(self, ration: tuple[int, float]) -> None:
        self._most, self._each_second = ration
        self._left = float(self._most)
        self._at = 0.0

    def take(self, now: float) -> bool:
        self._left = min(self._most, self._left + (now - self._at) * self._each_second)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def give_back(self, count: int) -> None:
        left = self._left + count
        self._left = left if left < self._most else self._most
