"""STATE: how offline commands are told which mesh they are asked about. One scenario file, or a folder of objects for each cluster."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from isthmus.cli.errors import BAD_INPUT, BAD_USAGE, Failed
from isthmus.cli.one_answer import collect_nothing, keep_to_the_end

Object = dict[str, Any]


def state_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options; the command gets a scenario document as `state`."""
    return _with_options(command, needed=True)


def optional_state_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The same for a command that can ask a running mesh instead: then `state` is None."""
    return _with_options(command, needed=False)


def _with_options(command: Callable[..., Any], *, needed: bool) -> Callable[..., Any]:
    @functools.wraps(command)
    def with_state(
        scenario: str, clusters: Sequence[str], config_cluster: str, mesh_config: str, env: Sequence[str], **rest: Any
    ) -> Any:
        if not needed and not scenario and not clusters:
            return command(state=None, **rest)
        collect_nothing()
        state = _document(scenario, clusters, config_cluster, mesh_config, env)
        keep_to_the_end(state)
        return command(state=state, **rest)

    options: tuple[Callable[[Callable[..., Any]], Callable[..., Any]], ...] = (
        click.option("--scenario", default="", metavar="FILE", help="The whole mesh in one file."),
        click.option(
            "--cluster", "clusters", multiple=True, metavar="ID=FILE|DIR", help="One cluster's objects; repeatable."
        ),
        click.option(
            "--config-cluster", default="", metavar="ID", help="Whose configuration counts; the first by default."
        ),
        click.option("--mesh-config", default="", metavar="FILE", help="Istio's MeshConfig."),
        click.option("--env", multiple=True, metavar="NAME=VALUE", help="A feature switch; repeatable."),
    )
    decorated: Callable[..., Any] = with_state
    for option in reversed(options):
        decorated = option(decorated)
    return decorated


def documents(source: str) -> list[Any]:
    """Every YAML or JSON document of a file, of the files in a folder, or of stdin (`-`). Raises Failed with the line of a mistake."""
    if source == "-":
        texts = {"stdin": sys.stdin.read()}
    else:
        path = Path(source)
        files = (
            sorted(p for p in path.rglob("*") if p.suffix in (".yaml", ".yml", ".json")) if path.is_dir() else [path]
        )
        try:
            texts = {str(file): file.read_text() for file in files}
        except (OSError, UnicodeDecodeError) as error:
            raise Failed(f"{source}: cannot be read: {error}", exit_code=BAD_INPUT) from None
    found: list[Any] = []
    for name, text in texts.items():
        if (whole := _json_document(text)) is not None:
            found += [whole] if whole else []
            continue
        import yaml

        try:
            found += [doc for doc in yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) if doc]
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f"{name}:{mark.line + 1}" if mark else name
            raise Failed(f"{where}: is not YAML: {getattr(error, 'problem', error)}", exit_code=BAD_INPUT) from None
    return found


def _json_document(text: str) -> Any:
    """A text that is one JSON document, which is YAML too, but read a hundred times faster; None for any other."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    import msgspec

    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None


def _json_scenario(source: str) -> list[Object]:
    """A scenario in JSON, with its objects as their text: what kind of thing each is says how to read it. Nothing for any other file."""
    if source == "-":
        return []
    import msgspec

    try:
        whole = msgspec.json.decode(Path(source).read_bytes(), type=dict[str, msgspec.Raw])
        clusters = msgspec.json.decode(whole.pop("clusters"), type=list[dict[str, msgspec.Raw]])
        found = [
            {
                key: msgspec.json.decode(value, type=list[msgspec.Raw] if key == "objects" else Any)
                for key, value in each.items()
            }
            for each in clusters
        ]
        return [{key: msgspec.json.decode(value) for key, value in whole.items()} | {"clusters": found}]
    except (OSError, KeyError, msgspec.DecodeError):
        return []


def _document(
    scenario: str, clusters: Sequence[str], config_cluster: str, mesh_config: str, env: Sequence[str]
) -> Object:
    if bool(scenario) == bool(clusters):
        raise Failed(
            "say which mesh: either --scenario FILE, or --cluster ID=FILE for each cluster", exit_code=BAD_USAGE
        )
    switches = dict(_pair(entry, "--env") for entry in env)
    if scenario:
        [document, *more] = _json_scenario(scenario) or documents(scenario) or [None]
        if not isinstance(document, dict) or more:
            raise Failed(f"{scenario}: is not one Scenario", exit_code=BAD_INPUT)
        return document | ({"env": (document.get("env") or {}) | switches} if switches else {})
    named = [_pair(entry, "--cluster") for entry in clusters]
    state: Object = {"clusters": [{"id": name, "objects": documents(source)} for name, source in named]}
    state["configCluster"] = config_cluster or named[0][0]
    state["env"] = switches
    if mesh_config:
        state["meshConfig"] = (documents(mesh_config) or [{}])[0]
    return state


def read_json(source: str) -> Any:
    """A JSON or YAML file with one document."""
    text = sys.stdin.read() if source == "-" else Path(source).read_text()
    try:
        return json.loads(text)
    except ValueError:
        found = documents(source) if source != "-" else []
        if len(found) != 1:
            raise Failed(f"{source}: is not one JSON document", exit_code=BAD_INPUT) from None
        return found[0]


def _pair(entry: str, option: str) -> tuple[str, str]:
    name, separator, value = entry.partition("=")
    if not separator or not name:
        raise Failed(f"{option} {entry}: write it as NAME=VALUE", exit_code=BAD_USAGE)
    return name, value
