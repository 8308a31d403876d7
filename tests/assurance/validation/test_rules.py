"""What is found in which object: the decisions are in rules/*.yaml, one each, with the code and the place of every finding.

That this version does not read a field is no decision of a rule: tests/assurance/validation/test_unread.py has it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from isthmus.assurance.catalogue.validation import NOT_READ
from isthmus.assurance.validation import problems_of

RULES = Path(__file__).parent / "rules"
VERSIONS = {
    "telemetry.istio.io/v1": ("Telemetry",),
    "security.istio.io/v1": ("PeerAuthentication", "RequestAuthentication", "AuthorizationPolicy"),
    "extensions.istio.io/v1alpha1": ("WasmPlugin",),
    "gateway.networking.k8s.io/v1": (
        "k8s Gateway",
        "ListenerSet",
        "HTTPRoute",
        "GRPCRoute",
        "TCPRoute",
        "ReferenceGrant",
    ),
    "multicluster.x-k8s.io/v1alpha1": ("ServiceExport", "ServiceImport"),
    "federation.isthmus.io/v1alpha1": ("MeshPeer",),
    "admiral.io/v1alpha1": ("GlobalTrafficPolicy",),
}


def cases() -> list[Any]:
    found = []
    for file in sorted(RULES.glob("*.yaml")):
        for case in yaml.safe_load(file.read_text()):
            [kind] = case.keys() - {"name", "finds"}
            found.append(
                pytest.param(kind, case[kind], case.get("finds") or [], id=f"{file.stem}: {kind}: {case['name']}")
            )
    return found


def described(kind: str, spec: Any) -> dict[str, Any]:
    version = next((version for version, kinds in VERSIONS.items() if kind in kinds), "networking.istio.io/v1")
    return {
        "apiVersion": version,
        "kind": kind.removeprefix("k8s "),
        "metadata": {"name": "a", "namespace": "b"},
        "spec": spec,
    }


@pytest.mark.parametrize(("kind", "spec", "finds"), cases())
def test_exactly_this_is_found(kind: str, spec: Any, finds: list[str]) -> None:
    seen = sorted(
        f"{problem.code.id} {problem.path}"
        for problem in problems_of(described(kind, spec))
        if problem.code is not NOT_READ
    )

    assert seen == sorted(finds)


def test_every_finding_says_what_to_do() -> None:
    found = [
        problem
        for case in cases()
        for problem in problems_of(described(case.values[0], case.values[1]))  # type: ignore[arg-type]
    ]

    assert len(found) > 150
    assert all(problem.what and problem.fix for problem in found)
