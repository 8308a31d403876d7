"""`isthmus gateway-status`: what Gateway API's objects are told, without any server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from isthmus.cli.errors import BAD_INPUT, Failed
from isthmus.cli.output import json_output, print_json, print_table
from isthmus.cli.state_options import state_options

Object = dict[str, Any]

_NO_TIME = "1970-01-01T00:00:00Z"
"""When a condition began to hold is nothing that objects alone can say."""


@click.command("gateway-status")
@state_options
@json_output
def gateway_status_command(state: Object, output: str) -> None:
    """Compute the statuses of Gateway API's objects: which routes hold where, and why others do not.

    \b
    Examples:
      isthmus gateway-status --cluster east=east/
      isthmus gateway-status --scenario mesh.yaml -o json
    """
    from isthmus.assurance.scenario import BadScenario

    try:
        found = statuses(state)
    except BadScenario as error:
        raise Failed(f"gateway-status: {error}", exit_code=BAD_INPUT) from None
    if output == "json":
        print_json(found)
    else:
        print_table(("KIND", "NAME", "WHERE", "CONDITION", "STATUS", "REASON", "MESSAGE"), _rows(found["statuses"]))


def statuses(state: Object) -> Object:
    """`{statuses: [{kind, metadata, status}], warnings: […]}` for a scenario. Raises BadScenario."""
    from isthmus.assurance.gateway_status import documents, gateway_statuses
    from isthmus.assurance.scenario import scenario_of

    scenario = scenario_of(state)
    config = scenario.cluster(scenario.config_cluster)
    assert config is not None, "a scenario has its config cluster"
    found = documents(gateway_statuses(scenario.snapshot(), config.objects, _NO_TIME))
    return {"statuses": found, "warnings": list(scenario.warnings)}


def _rows(found: list[Object]) -> Iterator[tuple[object, ...]]:
    for each in found:
        metadata, status = each["metadata"], each["status"]
        name = "/".join(part for part in (metadata.get("namespace"), metadata["name"]) if part)
        places = [("", status), *((f"listener {one['name']}", one) for one in status.get("listeners", ()))]
        places += [(_parent(one["parentRef"]), one) for one in status.get("parents", ())]
        for where, place in places:
            for said in place.get("conditions", ()):
                yield each["kind"], name, where, said["type"], said["status"], said["reason"], said["message"]


def _parent(reference: Object) -> str:
    name = "/".join(part for part in (reference.get("namespace"), reference["name"]) if part)
    section = reference.get("sectionName") or reference.get("port")
    return f"{reference['kind']} {name}{f' {section}' if section else ''}"
