"""Commands that compute one answer from a whole mesh, print it and end: what they hold is in use until then."""

from __future__ import annotations

import gc


def collect_nothing() -> None:
    """Looking for cycles in what all stays in use would cost a quarter of the time."""
    gc.disable()


def keep_to_the_end(*values: object) -> None:
    """Taking a mesh apart, object by object, would cost a tenth of the time: nothing less than the end of the process frees these.

    They are in a cycle, and the collector, which alone would find it, does not run.
    """
    kept: list[object] = list(values)
    kept.append(kept)
