"""What is written about machines: who registers one, who takes one over, and when an entry goes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from isthmus.api.networking import WorkloadEntry
from isthmus.controlplane.machine_plan import Change, Create, Delete, Machine, Sight, registered, steps, without_machine
from isthmus.ingest.machines import CONNECTED_AT, CONTROLLER, DISCONNECTED_AT, GROUP, Registration
from isthmus.model.names import ClusterId, NetworkId
from isthmus.model.topology import Locality
from isthmus.xds.health import HealthReport

NAME = ("bank", "ledger-10.0.0.9-n1")
SPEC = {"address": "10.0.0.9", "labels": {"app": "ledger"}, "network": "n1", "serviceAccount": "ledger"}
REGISTRATION = Registration(
    cluster=ClusterId("east"), namespace="bank", name=NAME[1], group="ledger", group_uid="u1",
    labels=(("app", "ledger"),), network=NetworkId("n1"), locality=Locality(), spec=SPEC, annotations={GROUP: "ledger"},
)  # fmt: skip
HERE = Machine(registration=REGISTRATION, connected_at="t1")
ON, OFF = HealthReport(healthy=True), HealthReport(healthy=False, message="503: no")


def entry(owner: str, *, spec: dict[str, Any] = SPEC, said: str = "", **annotations: str) -> WorkloadEntry:
    """As the API server has it. `said` is the status of its condition."""
    return msgspec.convert(
        {
            "metadata": {
                "name": NAME[1], "namespace": "bank", "uid": "e1", "resourceVersion": "7", "labels": {"app": "ledger"},
                "annotations": {GROUP: "ledger", CONTROLLER: owner, **annotations},
            },
            "spec": spec,
            "status": {"conditions": [{"type": "Healthy", "status": said}] if said else []},
        },
        WorkloadEntry,
    )  # fmt: skip


CONNECTED = {CONNECTED_AT: "t1"}
LEFT = {DISCONNECTED_AT: "t2"}


def plan(machine: Machine | None, found: WorkloadEntry | None, *, abandoned: tuple[str, ...] = (), left: float = 0.0):
    return list(
        steps(
            Sight(
                me="me", machines={NAME: machine} if machine else {}, entries={NAME: found} if found else {},
                abandoned=frozenset(abandoned), left_for={NAME: left}, grace_seconds=10.0, stamp="now",
            )
        )
    )  # fmt: skip


def test_a_machine_that_connects_gets_an_entry_of_its_group():
    [made] = plan(HERE, None)

    assert isinstance(made, Create)
    assert made.body["metadata"] == {
        "name": NAME[1],
        "namespace": "bank",
        "labels": {"app": "ledger"},
        "annotations": {GROUP: "ledger", CONTROLLER: "me", CONNECTED_AT: "t1"},
        "ownerReferences": [
            {
                "apiVersion": "networking.istio.io/v1",
                "kind": "WorkloadGroup",
                "name": "ledger",
                "uid": "u1",
                "controller": True,
            }
        ],
    }
    assert made.body["spec"] == SPEC


def test_an_entry_that_is_as_it_should_be_is_left_alone():
    assert plan(HERE, entry("me", **CONNECTED)) == []


def test_what_others_have_written_beside_it_stays_and_what_the_group_says_is_mended():
    [change] = plan(HERE, entry("me", spec=SPEC | {"weight": 5, "network": "n9"}, note="mine", **CONNECTED))

    assert change == Change(NAME, {"metadata": {"resourceVersion": "7"}, "spec": {"weight": None, "network": "n1"}})


def test_an_entry_whose_owner_lives_is_not_taken_away_from_it():
    assert plan(HERE, entry("other", **CONNECTED)) == []


@pytest.mark.parametrize(("annotations", "abandoned"), [(LEFT, ()), (CONNECTED, ("other",))])
def test_an_entry_is_taken_over_once_its_owner_says_that_the_machine_is_gone_or_says_nothing_any_more(
    annotations, abandoned
):
    [change] = plan(HERE, entry("other", **annotations), abandoned=abandoned)

    assert isinstance(change, Change)
    said = change.body["metadata"]["annotations"]
    assert said[CONTROLLER] == "me"
    assert said.get(DISCONNECTED_AT) is None


@pytest.mark.parametrize("owner", ["me", "other"])
def test_health_is_told_by_whoever_hears_of_it(owner):
    [told] = plan(Machine(registration=REGISTRATION, connected_at="t1", health=OFF), entry(owner, **CONNECTED))

    assert isinstance(told, Change)
    assert told.subresource == "status"
    [condition] = told.body["status"]["conditions"]
    assert (condition["type"], condition["status"], condition["message"]) == ("Healthy", "False", "503: no")


def test_health_that_is_known_is_not_told_again():
    assert (
        plan(Machine(registration=REGISTRATION, connected_at="t1", health=ON), entry("me", said="True", **CONNECTED))
        == []
    )


def test_a_machine_that_goes_is_marked_and_after_the_grace_its_entry_is_deleted():
    marked = plan(None, entry("me", **CONNECTED), left=1.0)
    waiting = plan(None, entry("me", **LEFT), left=9.0)
    gone = plan(None, entry("me", **LEFT), left=10.0)

    said = {DISCONNECTED_AT: "now", CONNECTED_AT: None}
    assert marked == [Change(NAME, {"metadata": {"resourceVersion": "7", "annotations": said}})]
    assert waiting == []
    assert gone == [Delete(NAME, "e1")]


def test_the_entry_of_a_control_plane_that_died_is_seen_to_by_another_one():
    assert plan(None, entry("other", **CONNECTED), left=60.0) == []
    assert plan(None, entry("other", **CONNECTED), abandoned=("other",), left=10.0) == [Delete(NAME, "e1")]


def test_entries_that_people_have_made_are_nobody_s_to_delete():
    by_hand = msgspec.structs.replace(
        entry("me"), metadata=msgspec.structs.replace(entry("me").metadata, annotations={})
    )

    found = registered({NAME: by_hand, ("bank", "pod"): object()})

    assert found == {}
    sight = Sight(
        me="me",
        machines={},
        entries=found,
        abandoned=frozenset(),
        left_for={},
        grace_seconds=0,
        stamp="",
    )
    assert without_machine(sight) == set()
