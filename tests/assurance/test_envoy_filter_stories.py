"""envoy-filters.md, read aloud: each section is a patch and what it changes in the configuration of one sidecar of explaining/shop.yaml.

ISTHMUS_REWRITE=1 writes the changes anew: read every line of them.
"""

from __future__ import annotations

import copy
import difflib
import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from isthmus.assurance.rendering import node_of, render
from isthmus.assurance.scenario import scenario_of
from isthmus.cli.envoy_judgement import verdict

STORIES = Path(__file__).parent / "envoy-filters.md"
SHOP = yaml.safe_load((Path(__file__).parent / "explaining" / "shop.yaml").read_text())
SECTION = re.compile(
    r"^## (?P<title>.+?)\n(?P<prose>.*?)```yaml\n(?P<patch>.*?)```\n\n```diff\n(?P<diff>.*?)```\n", re.M | re.S
)
CONTEXT_LINES, GONE_LINES = 2, 6
PARTS = ("listeners", "routes", "clusters")


def sections() -> list[re.Match[str]]:
    return list(SECTION.finditer(STORIES.read_text()))


def rendered(patch: str = "") -> dict[str, Any]:
    changed = copy.deepcopy(SHOP)
    if patch:
        spec = {"configPatches": yaml.safe_load(patch)}
        metadata = {"name": "story", "namespace": "shop"}
        changed["clusters"][0]["objects"].append(
            {"apiVersion": "networking.istio.io/v1alpha3", "kind": "EnvoyFilter", "metadata": metadata, "spec": spec}
        )
    scenario = scenario_of(changed)
    return render(scenario, node_of(scenario, "sidecar/web-1.shop", "east"))


PLAIN = rendered()


def lines(resource: dict[str, Any] | None) -> list[str]:
    alone = json.loads(json.dumps(resource))  # Parts that are alike are one object, which YAML would tell.
    return yaml.safe_dump(alone, width=1000, sort_keys=True).splitlines() if resource else []


def changes(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    """Of each resource that is not as it was: the lines that differ, with some around them."""
    for part in PARTS:
        was, now = ({each["name"]: each for each in document[part]} for document in (before, after))
        for name in sorted(was.keys() | now.keys()):
            diff = difflib.unified_diff(lines(was.get(name)), lines(now.get(name)), n=CONTEXT_LINES, lineterm="")
            told = ["..." if line.startswith("@@") else line for line in list(diff)[2:]]
            if told:
                yield f"# {part}: {name}"
                yield from shortened(told)


def shortened(told: Iterable[str]) -> Iterator[str]:
    """Of what is gone the beginning is enough."""
    for is_gone, run in itertools.groupby(told, key=lambda line: line.startswith("-")):
        found = list(run)
        yield from found[:GONE_LINES] if is_gone else found
        if is_gone and len(found) > GONE_LINES:
            yield f"-... and {len(found) - GONE_LINES} lines more"


@pytest.mark.parametrize("section", sections(), ids=lambda section: section["title"])
def test_the_patch_changes_what_is_told_and_nothing_else(section):
    after = rendered(section["patch"])

    assert verdict(after) == ""
    seen = "".join(f"{line}\n" for line in changes(PLAIN, after))
    if os.environ.get("ISTHMUS_REWRITE"):
        whole = section[0].replace(f"```diff\n{section['diff']}```", f"```diff\n{seen}```")
        STORIES.write_text(STORIES.read_text().replace(section[0], whole))
    else:
        assert seen == section["diff"]


def test_every_place_and_every_operation_has_a_story():
    told = {
        (each["applyTo"], each["patch"]["operation"]) for one in sections() for each in yaml.safe_load(one["patch"])
    }

    whole = {"ADD", "MERGE", "REMOVE", "REPLACE", "INSERT_FIRST", "INSERT_BEFORE", "INSERT_AFTER"}
    done = {
        "LISTENER": {"ADD", "MERGE", "REMOVE"},
        "FILTER_CHAIN": {"ADD", "MERGE", "REMOVE"},
        "LISTENER_FILTER": whole,
        "NETWORK_FILTER": whole,
        "HTTP_FILTER": whole,
        "ROUTE_CONFIGURATION": {"MERGE"},
        "VIRTUAL_HOST": {"ADD", "MERGE", "REPLACE", "REMOVE"},
        "HTTP_ROUTE": whole,
        "CLUSTER": {"ADD", "MERGE", "REMOVE"},
    }
    assert {(place, operation) for place, operations in done.items() for operation in operations} <= told
