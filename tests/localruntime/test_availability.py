"""Availability of deployment models, computed from their topologies."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from isthmus.localruntime.availability import losses
from isthmus.localruntime.planning import plan_of
from isthmus.localruntime.topology import load

ROOT = Path(__file__).parents[2]


def after(example: str) -> dict[str, tuple[float, float]]:
    """What is lost → what is left of control and of requests, in percent."""
    plan = plan_of(load(ROOT / "examples" / f"{example}.yaml"))
    return {loss.what: (round(100 * loss.control), round(100 * loss.requests)) for loss in losses(plan)}


@pytest.mark.parametrize(
    ("example", "lost", "left"),
    [
        ("one-shore", "control plane of c1", (0, 100)),
        ("one-shore", "cluster c1", (0, 0)),
        ("two-shores", "control plane of east", (50, 100)),
        ("two-shores", "links of network n2", (100, 100)),
        ("primary-remote", "control plane of east", (0, 100)),
        ("primary-remote", "cluster east", (0, 100)),
        ("primary-remote-two-networks", "gateways of east", (50, 100)),
        ("primary-remote-two-networks", "links of network n2", (50, 100)),
        ("external-control-plane", "cluster ops", (0, 100)),
        ("shared-control-planes", "control plane of east", (100, 100)),
        ("shared-control-planes", "cluster east", (100, 100)),
        ("one-per-region", "control plane of eu1", (100, 100)),
        ("one-per-region", "cluster us1", (100, 100)),
    ],
)
def test_what_is_left_after_a_loss(example, lost, left):
    assert after(example)[lost] == left


def test_the_page_on_choosing_is_what_is_computed():
    described = importlib.util.spec_from_file_location("choosing", ROOT / "tools" / "choosing.py")
    choosing = importlib.util.module_from_spec(described)
    described.loader.exec_module(choosing)

    assert (ROOT / "docs" / "guides" / "choosing.md").read_text() == choosing.text(), "run `make choosing`"
