"""Which namespaces a mesh knows of: those that a selector chooses, in every cluster, with everything in them."""

from __future__ import annotations

import pytest
import yaml

from isthmus.ingest.discovery_selectors import BadSelector, selectors_of

MINE = [{"matchLabels": {"mesh": "mine"}}]


def namespace(words, name, **labels):
    return words.obj("Namespace", name, "", labels)


def mesh_config(words, selectors):
    found = words.obj("ConfigMap", "istio", "istio-system")
    return found | {"data": {"mesh": yaml.safe_dump({"discoverySelectors": selectors})}}


def service(words, name, where):
    found = words.service(name)
    found["metadata"]["namespace"] = where
    return found


def known(words, selectors, labels):
    """The services of namespaces a (with these labels) and b (without), in both of two clusters."""

    def objects():
        return [
            words.network("n1"),
            namespace(words, "a", **labels),
            namespace(words, "b"),
            service(words, "in-a", "a"),
            service(words, "in-b", "b"),
        ]

    east = words.cluster("east", *objects(), mesh_config(words, selectors))
    return words.snapshot(east, words.cluster("west", *objects()))


def names(snapshot):
    return {(key.hostname.split(".")[0], tuple(found.declared_in)) for key, found in snapshot.services.items()}


def test_only_chosen_namespaces_are_part_of_the_mesh_in_every_cluster(words):
    snapshot = known(words, MINE, {"mesh": "mine"})

    assert names(snapshot) == {("in-a", ("east", "west"))}
    told = [issue.what for issue in snapshot.issues if issue.code == "ISM0109"]
    assert len(told) == 2, "one for each cluster"
    assert all("chooses b, istio-system:" in what for what in told)


@pytest.mark.parametrize("selectors", [[], [{}]])
def test_no_selector_and_an_empty_one_choose_all(words, selectors):
    snapshot = known(words, selectors, {})

    assert {name for name, _ in names(snapshot)} == {"in-a", "in-b"}
    assert [issue for issue in snapshot.issues if issue.code == "ISM0109"] == []


def test_any_of_several_is_enough(words):
    selectors = [*MINE, {"matchExpressions": [{"key": "team", "operator": "In", "values": ["x", "y"]}]}]

    assert {name for name, _ in names(known(words, selectors, {"team": "y"}))} == {"in-a"}


def test_rules_in_other_namespaces_do_not_count(words):
    spec = {"host": "in-a.a.svc.cluster.local"}
    rules = [words.obj("DestinationRule", name, name, spec=spec) for name in ("a", "b")]
    spaces = [namespace(words, "a", mesh="mine"), namespace(words, "b")]

    snapshot = words.snapshot(words.cluster("east", *spaces, *rules, mesh_config(words, MINE)))

    assert [rule.namespace for rule in snapshot.destination_rules] == ["a"]


def test_a_wrong_selector_hides_nothing_and_is_told(words):
    snapshot = known(words, [*MINE, {"matchExpressions": [{"key": "x", "operator": "Like"}]}], {"mesh": "mine"})

    assert {name for name, _ in names(snapshot)} == {"in-a", "in-b"}
    assert any("discoverySelectors[1].matchExpressions[0].operator" in issue.what for issue in snapshot.issues)


@pytest.mark.parametrize(
    ("said", "where"),
    [
        ("x", "discoverySelectors: is not a list"),
        (["x"], "discoverySelectors[0]: is not an object"),
        ([{"matchLabels": ["a"]}], "matchLabels"),
        ([{"matchLabels": {"a": 1}}], "matchLabels"),
        ([{"matchExpressions": "x"}], "matchExpressions"),
        ([{"matchExpressions": [{"operator": "Exists"}]}], "key"),
        ([{"matchExpressions": [{"key": "a", "operator": "In"}]}], "values"),
        ([{"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["x"]}]}], "values"),
        ([{"matchExpressions": [{"key": "a", "operator": "In", "values": [1]}]}], "values"),
    ],
)
def test_what_is_no_selector_is_named(said, where):
    with pytest.raises(BadSelector) as error:
        selectors_of(said)

    assert where in str(error.value)
