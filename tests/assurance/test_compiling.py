"""A mistake of ours costs the part that it is in, and is told; everything else is what it would be without that part."""

from __future__ import annotations

from typing import Any

import pytest

from isthmus.assurance.rendering import node_of, render
from isthmus.assurance.scenario import Scenario, scenario_of
from isthmus.discovery import view
from isthmus.envoy import compile as compiling
from isthmus.envoy import inbound, outbound
from isthmus.model.snapshot import Snapshot


def mesh(*names: str) -> Scenario:
    objects: list[dict[str, Any]] = []
    for index, name in enumerate(names):
        metadata = {"name": name, "namespace": "shop"}
        port = {"name": "tcp" if name == "bytes" else "http", "port": 80 + index, "targetPort": 8080}
        spec = {"clusterIP": f"10.96.0.{index + 1}", "selector": {"app": name}, "ports": [port]}
        objects.append({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
        pod = metadata | {"labels": {"app": name}}
        status = {"podIP": f"10.0.0.{index + 1}", "phase": "Running"}
        objects.append({"apiVersion": "v1", "kind": "Pod", "metadata": pod, "status": status})
        objects.append(
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": metadata | {"labels": {"kubernetes.io/service-name": name}},
                "addressType": "IPv4",
                "ports": [{"name": port["name"], "port": 8080}],
                "endpoints": [{"addresses": [status["podIP"]], "targetRef": {"kind": "Pod", "name": name}}],
            }
        )
    return scenario_of({"clusters": [{"id": "east", "objects": objects}]})


def rendered(scenario: Scenario) -> dict[str, Any]:
    return render(scenario, node_of(scenario, "sidecar/caller.shop", "east"))


def failing_for(word: str, real: Any) -> Any:
    """The function, but that it raises where an argument other than the whole mesh is about `word`."""

    def fails(*arguments: Any, **named: Any) -> Any:
        if word in str([each for each in arguments if not isinstance(each, Snapshot)]):
            raise ZeroDivisionError(f"about {word}")
        return real(*arguments, **named)

    return fails


@pytest.mark.parametrize(
    ("module", "name"),
    [(view, "spread"), (compiling, "cluster_for"), (outbound, "_bytes_to")],
)
def test_a_service_that_cannot_be_computed_is_left_out_and_named(monkeypatch, module, name):
    without = rendered(mesh("caller", "web"))
    monkeypatch.setattr(module, name, failing_for("bytes", getattr(module, name)))

    document = rendered(mesh("caller", "web", "bytes"))

    [warning] = document.pop("warnings")
    assert warning.startswith("Service shop/bytes: is left out of what is shown, by a mistake of Isthmus")
    assert "ZeroDivisionError: about bytes" in warning
    assert document["clusters"] == without["clusters"]
    assert document["routes"] == without["routes"]


def test_a_port_of_the_workload_that_cannot_be_computed_is_left_out_and_named(monkeypatch):
    monkeypatch.setattr(inbound, "listeners", failing_for("caller.shop", inbound.listeners))

    document = rendered(mesh("caller", "web"))

    [warning] = document["warnings"]
    assert warning.startswith("port 8080: is left out of what is shown")
    assert "virtualInbound" in {each["name"] for each in document["listeners"]}


def test_a_mistake_that_is_of_no_part_is_raised(monkeypatch):
    monkeypatch.setattr(compiling, "frame", failing_for("", None))

    with pytest.raises(ZeroDivisionError):
        rendered(mesh("caller", "web"))
