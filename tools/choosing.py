"""Writes the page on choosing a deployment model: availability is computed from the examples, not asserted.

python tools/choosing.py [PAGE]
"""

from __future__ import annotations

import sys
from pathlib import Path

from isthmus.localruntime.availability import Loss, losses
from isthmus.localruntime.planning import plan_of
from isthmus.localruntime.topology import load

_ROOT = Path(__file__).parents[1]
_KINDS = ("control plane", "cluster", "gateways", "network")


_NO_STAND_INS = ("stateful",)
"""Where no workload answers for another one, there is nothing to compute: the page says so."""


def main(arguments: list[str]) -> int:
    page = Path(arguments[0]) if arguments else _ROOT / "docs" / "guides" / "choosing.md"
    page.write_text(text())
    return 0


def text() -> str:
    """The whole page."""
    examples = [path for path in sorted((_ROOT / "examples").glob("*.yaml")) if path.stem not in _NO_STAND_INS]
    found = {path.stem: list(losses(plan_of(load(path)))) for path in examples}
    ranked = sorted(found.items(), key=lambda item: (-_worst(item[1]), -_mean(item[1]), item[0]))
    ranking = "\n".join(_row(name, each) for name, each in ranked)
    worst = "\n".join(
        f"| `{name}` | {loss.what} | {_percent(loss.control)} | {_percent(loss.requests)} |"
        for name, each in ranked
        for loss in each
        if loss.control < 1 or loss.requests < 1
    )
    left_out = ", ".join(f"`{name}`" for name in _NO_STAND_INS)
    return f"""# Choosing a deployment model

Written by `make choosing`, computed from the examples: for each single loss, which share of the proxies keeps *control* (new configuration, new
certificates), and which share of the clients is still answered. A lost cluster's own proxies and clients are not counted. Requests go on
without control; how the numbers of [what breaks when](../failure-modes.md) come about is measured there. Left out: {left_out}; where no workload
answers for another one, there is nothing to compute.

Ask in this order:

1. Can Pods of all clusters reach each other directly? One network, else several, with a gateway in each.
2. Who may change rules? Each team its own control plane (`one-network`, `two-shores`), or all together (`primary-remote`), or neither of them, but
   those who operate the mesh (`external-control-plane`).
3. What must survive? Proxies that hold two control planes lose control of nothing when one goes (`shared-control-planes`, `one-per-region`).
4. Must nothing of one cluster ever reach another? No remote secrets (`blue-green`).

## What is left, in the worst case of each loss

The share of proxies that keep control, and in the last column the share of clients that are still answered, in the worst of all.

| Example | a control plane | a cluster | gateways | a network's links | mean over all | clients answered |
| --- | --- | --- | --- | --- | --- | --- |
{ranking}

## Every loss that costs something

| Example | What is lost | Control left | Clients answered |
| --- | --- | --- | --- |
{worst}
"""


def _row(name: str, found: list[Loss]) -> str:
    cells = []
    for kind in _KINDS:
        of_kind = [loss.control for loss in found if loss.kind == kind]
        cells.append(_percent(min(of_kind)) if of_kind else "")
    answered = min(loss.requests for loss in found)
    return f"| `{name}` | {' | '.join(cells)} | {_percent(_mean(found))} | {_percent(answered)} |"


def _worst(found: list[Loss]) -> float:
    return min(loss.control for loss in found if loss.kind == "control plane")


def _mean(found: list[Loss]) -> float:
    return sum(loss.control for loss in found) / len(found)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
