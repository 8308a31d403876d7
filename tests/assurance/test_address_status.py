"""What a ServiceEntry is told in its status of what is wrong with it."""

from __future__ import annotations

from typing import Any

from isthmus.assurance.address_status import address_statuses
from isthmus.assurance.scenario import scenario_of

PORTS = [{"number": 80, "name": "http", "protocol": "HTTP"}]


def entry(*hosts: str, status: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": "store", "namespace": "edge", "generation": 3},
        "spec": {"hosts": list(hosts), "resolution": "STATIC", "addresses": ["192.0.2.1"], "ports": PORTS},
        "status": status or {},
    }


def told(obj: dict[str, Any], now: str = "2026-01-01T00:00:00Z") -> list[tuple[dict[str, Any], bool]]:
    scenario = scenario_of({"clusters": [{"id": "east", "objects": [obj]}]})
    found = address_statuses(scenario.snapshot(), scenario.clusters[0].objects, now)
    return [(each.status, each.is_there) for each in found]


def test_an_entry_without_a_mistake_is_told_nothing():
    assert told(entry("a.example")) == []


def test_what_is_wrong_is_a_condition_that_keeps_its_time_and_those_of_others():
    other = {"type": "Other", "status": "True"}

    [(status, is_there)] = told(entry("a.example", "*", status={"conditions": [other]}))

    accepted, kept = status["conditions"]
    assert (accepted["type"], accepted["status"], accepted["reason"]) == ("Accepted", "False", "ISM0403")
    assert accepted["message"] == "spec.hosts[1]: '*' is no host: it is left out"
    assert (kept, is_there) == (other, False)
    assert told(entry("a.example", "*", status=status), now="later") == [(status, True)]


def test_a_mistake_that_is_mended_is_told_as_mended():
    [(status, _)] = told(entry("a.example", "*"))

    [(mended, is_there)] = told(entry("a.example", status=status), now="2026-01-02T00:00:00Z")

    [accepted] = mended["conditions"]
    assert (accepted["status"], accepted["lastTransitionTime"], is_there) == ("True", "2026-01-02T00:00:00Z", False)
    assert told(entry("a.example", status=mended)) == [(mended, True)]
