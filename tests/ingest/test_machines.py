"""Machines: what their entries say of them, and who may have one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from isthmus.api.networking import WorkloadEntry, WorkloadGroup
from isthmus.ingest.machines import (
    GROUP,
    HEALTH_IS_CHECKED,
    NotRegistered,
    Registration,
    entry_name,
    health_of_entry,
    registration_of,
)
from isthmus.ingest.proxies import proxy_of
from isthmus.model.identity import SpiffeId
from isthmus.model.topology import Locality
from isthmus.model.workloads import Health

IDENTITY = SpiffeId.parse("spiffe://cluster.local/ns/bank/sa/ledger")
TEMPLATE = {"serviceAccount": "ledger", "labels": {"app": "ledger"}, "ports": {"http": 8080}, "weight": 3}


def registration(
    template: dict[str, Any] = TEMPLATE,
    *,
    annotations: dict[str, str] | None = None,
    extra: dict[str, Any] | None = None,
    entries: dict[tuple[str, str], object] | None = None,
    identity: SpiffeId = IDENTITY,
    **metadata: Any,
) -> Registration | None:
    """Of a machine with the address 10.0.0.9 that names the group `ledger`."""
    said = {"AUTO_REGISTER_GROUP": "ledger", "NETWORK": "n1", "CLUSTER_ID": "east"} | metadata
    node = "sidecar~10.0.0.9~vm-1.bank~bank.svc.cluster.local"
    group = msgspec.convert(
        {
            "metadata": {"name": "ledger", "namespace": "bank", "uid": "u1", "annotations": annotations or {}},
            "spec": {"template": template} | (extra or {}),
        },
        WorkloadGroup,
    )
    objects = {"WorkloadGroup": {("bank", "ledger"): group}, "WorkloadEntry": entries or {}}
    return registration_of(proxy_of(node, said, Locality("eu", "a", ""), identity), said, objects)


def test_an_entry_is_the_group_s_template_with_what_the_machine_adds():
    found = registration(extra={"metadata": {"labels": {"tier": "old"}, "annotations": {"team": "bank"}}})

    assert found is not None
    assert found.name == "ledger-10.0.0.9-n1"
    assert found.spec == {
        "address": "10.0.0.9",
        "ports": {"http": 8080},
        "labels": {"app": "ledger", "tier": "old"},
        "network": "n1",
        "locality": "eu/a",
        "weight": 3,
        "serviceAccount": "ledger",
    }
    assert found.annotations == {"team": "bank", GROUP: "ledger"}


def test_a_machine_s_own_labels_count_only_where_its_group_leaves_them_to_it():
    claimed = {"LABELS": {"app": "payments", "version": "v9", "rack": "7"}}

    kept = registration(**claimed)
    left = registration(annotations={"isthmus.io/machine-labels": "version, app"}, **claimed)

    assert kept is not None
    assert dict(kept.labels) == {"app": "ledger"}
    assert left is not None
    assert dict(left.labels) == {"app": "ledger", "version": "v9"}


def test_where_its_group_says_the_network_the_machine_does_not():
    found = registration(TEMPLATE | {"network": "n7"})

    assert found is not None
    assert (found.network, found.name) == ("n7", "ledger-10.0.0.9-n7")


def test_its_proxy_is_where_the_entry_says():
    found = registration(TEMPLATE | {"network": "n7"})
    proxy = proxy_of("sidecar~10.0.0.9~vm-1.bank~d", {"LABELS": {"app": "x"}}, Locality(), IDENTITY)

    assert found is not None
    placed = found.placed(proxy)
    assert (placed.scope.network, placed.scope.locality, placed.labels) == (
        "n7",
        Locality("eu", "a", ""),
        (("app", "ledger"),),
    )
    assert placed.scope == replace(proxy.scope, network="n7", locality=Locality("eu", "a", ""))


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"identity": SpiffeId.parse("spiffe://cluster.local/ns/bank/sa/clerk")}, "have the account bank/ledger, not bank/clerk"),
        ({"template": {}}, "have the account bank/default, not bank/ledger"),
        ({"AUTO_REGISTER_GROUP": "vault"}, "cluster east has no WorkloadGroup bank/vault"),
        (
            {"entries": {("bank", "ledger-10.0.0.9-n1"): WorkloadEntry()}},
            "WorkloadEntry bank/ledger-10.0.0.9-n1 was not made for a machine of WorkloadGroup ledger",
        ),
    ],
)  # fmt: skip
def test_who_is_none_of_the_group_is_told_why(given, why):
    with pytest.raises(NotRegistered, match=why):
        registration(**given)


def test_a_proxy_that_names_no_group_is_not_registered():
    assert registration(AUTO_REGISTER_GROUP="") is None


@pytest.mark.parametrize(
    ("group", "address", "network", "name"),
    [
        ("ledger", "10.0.0.9", "", "ledger-10.0.0.9"),
        ("ledger", "fd00::9", "n1", "ledger-fd00--9-n1"),
        ("l" * 250, "10.0.0.9", "n1", "l" * 241 + "-10.0.0.9-n1"),
    ],
)
def test_the_name_is_istio_s(group, address, network, name):
    assert entry_name(group, address, network) == name
    assert len(name) <= 253


@pytest.mark.parametrize(
    ("checked", "condition", "health"),
    [
        (False, "", Health.HEALTHY),
        (True, "", Health.UNHEALTHY),
        (True, "False", Health.UNHEALTHY),
        (True, "True", Health.HEALTHY),
    ],
)
def test_a_machine_that_checks_its_health_is_unhealthy_until_it_says_otherwise(checked, condition, health):
    conditions = [{"type": "Healthy", "status": condition}] if condition else []
    annotations = {HEALTH_IS_CHECKED: "true"} if checked else {}
    entry = msgspec.convert(
        {"metadata": {"annotations": annotations}, "status": {"conditions": conditions}}, WorkloadEntry
    )

    assert health_of_entry(entry) is health


def test_a_probe_in_the_agent_s_settings_means_that_health_is_checked():
    found = registration(PROXY_CONFIG={"readinessProbe": {"tcpSocket": {"port": 1}}})

    assert found is not None
    assert found.annotations[HEALTH_IS_CHECKED] == "true"
