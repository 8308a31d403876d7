"""Whom Prometheus is led to, and what the agent is told."""

from __future__ import annotations

import json

import pytest

from isthmus.injection.injecting import inject
from isthmus.injection.metrics import led_to_the_agent
from isthmus.injection.settings import BadRequest

AGENT = {"prometheus.io/scrape": "true", "prometheus.io/port": "15020", "prometheus.io/path": "/stats/prometheus"}
ENVOY = AGENT | {"prometheus.io/port": "15090"}
OWN = {"prometheus.io/scrape": "true", "prometheus.io/port": "8080", "prometheus.io/path": "/m"}
APART = {"prometheus.istio.io/merge-metrics": "false"}
TOGETHER = {"prometheus.istio.io/merge-metrics": "true"}


@pytest.mark.parametrize(
    ("annotations", "merges", "asked", "told"),
    [
        ({}, True, AGENT, {}),
        ({}, False, ENVOY, {}),
        (APART, True, ENVOY, {}),
        (OWN, True, AGENT, {"scrape": "true", "port": "8080", "path": "/m"}),
        ({"prometheus.io/port": "8080"}, True, AGENT, {"scrape": "true", "port": "8080"}),
        (OWN, False, {}, {}),
        (OWN | APART, True, {}, {}),
        (OWN | TOGETHER, False, AGENT, {"scrape": "true", "port": "8080", "path": "/m"}),
        ({"prometheus.io/scrape": "false"}, True, {}, {}),
        (AGENT, True, {}, {}),
    ],
)
def test_annotations_lead_to_the_agent_and_the_agent_to_the_workload(annotations, merges, asked, told):
    found = led_to_the_agent(annotations, merges=merges)

    assert found.annotations == asked
    assert [json.loads(each["value"]) for each in found.variables] == ([told] if told else [])


def test_a_port_that_is_none_leaves_the_pod_as_it_was_and_its_owner_is_told():
    found = led_to_the_agent({"prometheus.io/port": "http"}, merges=True)

    assert (found.annotations, found.variables) == ({}, ())
    assert "'http' is not a port" in found.warnings[0]


def test_a_wish_that_is_neither_yes_nor_no_is_refused():
    with pytest.raises(BadRequest, match="merge-metrics"):
        led_to_the_agent({"prometheus.istio.io/merge-metrics": "maybe"}, merges=True)


def test_an_injected_pod_has_both(settings, pod, variables):
    found = inject(pod(annotations=OWN), "shop", settings).pod

    assert found["metadata"]["annotations"].items() >= AGENT.items()
    assert json.loads(variables(found)["ISTIO_PROMETHEUS_ANNOTATIONS"])["path"] == "/m"
