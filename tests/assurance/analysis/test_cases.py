"""What is found between objects: the situations are in cases/*.yaml, each with every error and warning that it gives, as CODE OBJECT.

Infos, and what the computation of a mesh adds, are compared where a case lists some. A case has `objects` of one cluster, or
`clusters`; the first one's configuration counts.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from isthmus.assurance.analysis.analyzing import GivenCluster, Question, analyze
from isthmus.assurance.analysis.messages import origin_of
from isthmus.assurance.catalogue import validation
from isthmus.assurance.catalogue.lookup import all_codes, codes_of
from isthmus.model.issues import Issue, Severity

CASES = Path(__file__).parent / "cases"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
# Found by tests of their own: they need certificates, or a failure of ours.
ELSEWHERE = {"IST0161", "ISM0826", "ISM0812", "ISM0831", "ISM0830", "ISM0823"}


def cases() -> list[Any]:
    return [
        pytest.param(case, id=f"{file.stem}: {case['name']}")
        for file in sorted(CASES.glob("*.yaml"))
        for case in yaml.safe_load_all(file.read_text())
    ]


def found_in(case: dict[str, Any]) -> list[Issue]:
    clusters = case.get("clusters") or {"": case["objects"]}
    return analyze(
        Question(
            clusters=[GivenCluster(id=name, objects=objects) for name, objects in clusters.items()],
            mesh_config=case.get("meshConfig"),
            mesh_networks=case.get("meshNetworks"),
            now=NOW,
        )
    )


def shown(issue: Issue) -> str:
    return f"{issue.code} {origin_of(issue.subject)}"


@pytest.mark.parametrize("case", cases())
def test_exactly_this_is_found(case: dict[str, Any]) -> None:
    expected = set(case.get("finds") or [])
    listed = {line.split()[0] for line in expected}
    known = all_codes()

    seen = {
        shown(issue)
        for issue in found_in(case)
        if issue.code in listed or (issue.code in known and issue.severity > Severity.INFO)
    }

    assert seen == expected


def test_there_is_a_case_for_every_code_of_an_analyzer() -> None:
    said = {line.split()[0] for case in cases() for line in case.values[0].get("finds") or []}  # type: ignore[attr-defined]
    of_one_object = {code.id for code in codes_of(validation)}

    assert set(all_codes()) - of_one_object - said - ELSEWHERE == set()


def test_every_finding_says_what_to_do() -> None:
    found = [issue for case in cases() for issue in found_in(case.values[0])]  # type: ignore[arg-type]

    assert len(found) > 100
    assert all(issue.what and issue.fix for issue in found)


def test_the_order_of_objects_and_clusters_says_nothing() -> None:
    for case in cases():
        plain = case.values[0]
        turned = dict(plain)  # type: ignore[arg-type]
        if "objects" in turned:
            turned["objects"] = list(reversed(turned["objects"]))

        assert sorted(map(shown, found_in(turned))) == sorted(map(shown, found_in(plain)))  # type: ignore[arg-type]
