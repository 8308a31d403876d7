"""The command line as people and scripts meet it: help, exit codes, what is data and what is talk."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from isthmus.cli.app import _COMMANDS, isthmus

SCENARIO = Path(__file__).parents[1] / "assurance" / "two-shores.yaml"
EVERY = [name for commands in _COMMANDS.values() for name in commands]


def run(*arguments: str, stdin: str = "", **changed: str) -> subprocess.CompletedProcess[str]:
    import os

    return subprocess.run(
        [sys.executable, "-m", "isthmus.cli.app", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        env=os.environ | changed,
        timeout=60,
        check=False,
    )


def test_rendering_gives_the_same_bytes_in_every_process():
    ask = (
        "render",
        "--scenario",
        str(SCENARIO),
        "--proxy",
        "sidecar/client-0.sample",
        "--in-cluster",
        "east",
        "--explain",
    )

    first, second = run(*ask, PYTHONHASHSEED="1"), run(*ask, PYTHONHASHSEED="2")

    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout


@pytest.mark.parametrize("command", EVERY)
def test_help_begins_with_an_example(command):
    shown = CliRunner().invoke(isthmus, [command, "--help"]).output

    assert "Example" in shown
    assert f"isthmus {command}" in shown
    assert shown.index("Example") < shown.index("Options:")


def every_command(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from every_command(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


def test_help_says_of_each_option_what_it_is_for():
    unexplained = [
        f"{path} {option.opts[0]}"
        for path, command in every_command(isthmus)
        for option in command.params
        if isinstance(option, click.Option) and not option.help
    ]

    assert unexplained == []


def test_light_commands_import_neither_grpc_nor_protobuf():
    script = (
        "import sys; from isthmus.cli import app, running, proxies, files; import isthmus.localruntime.launch;"
        "print([name for name in ('grpc', 'google.protobuf', 'aiohttp') if name in sys.modules])"
    )

    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == "[]"


def test_the_supervisor_imports_no_grpc():
    script = "import sys; import isthmus.localruntime.supervisor; print('grpc' in sys.modules)"

    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == "False"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("up",), 64, "Missing argument 'TOPOLOGY'"),
        (("up", "nope"), 64, "there is no file 'nope', and no example of that name: `isthmus examples` lists them"),
        (("up", "two-shroes"), 64, "and no example of that name: did you mean two-shores?"),
        (("up", "example/two-shores.yaml"), 64, "did you mean the example two-shores?"),
        (("nonsense",), 64, "No such command 'nonsense'"),
        (("status",), 1, "no mesh runs here: start one with `isthmus up TOPOLOGY`"),
        (("proxy-config", "clusters", "client"), 1, "no mesh runs here"),
        (("render", "--node", "x"), 64, "say which mesh"),
        (("render", "--scenario", str(SCENARIO)), 64, "say which proxy"),
        (
            ("render", "--scenario", str(SCENARIO), "--proxy", "sidecar/x.y", "--in-cluster", "east"),
            65,
            "there is: client-0",
        ),
        (
            ("render", "--cluster", "east=/nowhere", "--proxy", "sidecar/x.y", "--in-cluster", "east"),
            65,
            "cannot be read",
        ),
    ],
)
def test_what_goes_wrong_is_one_clear_message_on_stderr(arguments, code, said, tmp_path):
    done = run(*arguments, ISTHMUS_STATE=str(tmp_path))

    assert done.returncode == code
    assert said in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_render_prints_one_json_document():
    done = run(
        "render",
        "--scenario",
        str(SCENARIO),
        "--proxy",
        "sidecar/client-0.sample",
        "--in-cluster",
        "east",
        "--validate",
    )

    document = json.loads(done.stdout)
    assert list(document) == ["node", "listeners", "routes", "clusters", "endpoints", "nameTable", "warnings"]
    assert "Envoy accepts this configuration" in done.stderr


def test_render_explains_as_a_table():
    done = run(
        "render",
        "--scenario",
        str(SCENARIO),
        "--proxy",
        "sidecar/client-0.sample",
        "--in-cluster",
        "east",
        "-o",
        "table",
    )

    assert "172.30.2.1:15443   1        0          through the gateway of network n2" in done.stdout
    assert "left out: " in done.stdout


def test_render_reads_the_node_from_stdin_and_a_cluster_from_a_folder(tmp_path):
    (tmp_path / "one.yaml").write_text("apiVersion: v1\nkind: Namespace\nmetadata: {name: default}\n")
    node = {"id": "sidecar~10.0.0.1~a.default~default.svc.cluster.local", "metadata": {"CLUSTER_ID": "c1"}}

    done = run("render", "--cluster", f"c1={tmp_path}", "--node", "-", "--only", "clusters", stdin=json.dumps(node))

    names = {cluster["name"] for cluster in json.loads(done.stdout)["clusters"]}
    assert {"PassthroughCluster", "BlackHoleCluster", "InboundPassthroughCluster"} <= names


def test_batch_answers_in_order_and_survives_bad_requests():
    lines = [
        '{"id": 1, "verb": "spiffe-parse", "params": {"id": "spiffe://example.org/a"}}',
        "not json",
        '{"id": 3, "verb": "no-such-verb"}',
        '{"id": 4, "verb": "render", "params": {}}',
        '{"id": 5, "verb": "spiffe-parse", "params": {"id": "http://example.org"}}',
    ]

    answers = [json.loads(line) for line in run("batch", stdin="\n".join(lines) + "\n").stdout.splitlines()]

    assert [answer["id"] for answer in answers] == [1, None, 3, 4, 5]
    assert answers[0]["result"] == {"valid": True, "errors": [], "id": "spiffe://example.org/a"}
    assert all("message" in answers[index]["error"] for index in (1, 2, 3))
    assert answers[4]["result"]["valid"] is False


def test_examples_are_listed():
    shown = json.loads(run("examples", "-o", "json").stdout)

    assert shown["schemaVersion"]
    assert {Path(example["path"]).name for example in shown["examples"]} >= {"one-shore.yaml", "two-shores.yaml"}
    assert all(example["summary"] for example in shown["examples"])
