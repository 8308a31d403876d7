"""up and down: what is refused before anything starts, and what is left afterwards: nothing."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
from datetime import datetime
from pathlib import Path

import pytest

pytestmark = pytest.mark.live

EXAMPLES = Path(__file__).parents[2] / "examples"
TWO_SHORES = str(EXAMPLES / "two-shores.yaml")


def test_up_ends_with_who_answered_which_way_and_what_to_do_next(isthmus):
    done = isthmus("up", TWO_SHORES)

    assert done.returncode == 0, done.stderr
    assert "direct 10.10.0." in done.stdout
    assert "gateway of west 172.30.2.240:15443" in done.stdout
    assert "gateway of east 172.30.1.240:15443" in done.stdout
    assert done.stdout.count("spiffe://cluster.local/ns/sample/sa/client") == 4
    assert "isthmus down" in done.stdout
    assert "east: istio-system/istiod is ready" in done.stderr, "progress is talk, not data"
    said = sorted(line for log in isthmus.home.glob("*/logs/**/*.log") for line in log.read_text().splitlines())
    warnings = [line for line in said if "[warning" in line or "[error" in line]
    began = min(filter(None, map(told_at, said)))
    early = [line for line in warnings if (at := told_at(line)) and (at - began).total_seconds() < 15]
    assert early == [], "who starts first waits for the others"
    assert any("certificate issued" in line for line in said), "they have said something"


def told_at(line: str) -> datetime | None:
    """When a log says that it was written; None for what is no line of a log."""
    try:
        return datetime.fromisoformat(line[: len("2026-01-01 00:00:00")])
    except ValueError:
        return None


def test_the_readmes_commands_work_as_written(isthmus):
    """Every `isthmus` command of the README, in order; the last one takes the mesh down."""
    text = (EXAMPLES.parent / "README.md").read_text()
    lines = [line.partition("#")[0].strip() for line in text.splitlines() if line.startswith("    isthmus ")]
    assert lines[-1] == "isthmus down"
    assert isthmus("up", TWO_SHORES, "--no-traffic").returncode == 0

    done = [(line, isthmus(*shlex.split(line)[1:])) for line in lines]

    assert [(line, each.stderr) for line, each in done if each.returncode] == []
    assert isthmus.processes() == []


def test_rootless_is_the_same(isthmus):
    done = isthmus("up", TWO_SHORES, "--rootless")

    assert done.returncode == 0, done.stderr
    assert "gateway of west 172.30.2.240:15443" in done.stdout
    assert isthmus("exec", "client", "--cluster", "east", "--", "id", "-u").stdout.strip() == "0"


def test_down_leaves_nothing(isthmus):
    isthmus("up", str(EXAMPLES / "one-shore.yaml"))
    assert isthmus.processes()

    done = isthmus("down")

    assert done.returncode == 0
    assert isthmus.processes() == []
    assert list(isthmus.home.iterdir()) == []


def _interruptible() -> None:
    """As a terminal starts it: what a shell starts in the background ignores interrupts, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_interrupted_up_leaves_nothing(isthmus, until):
    process = subprocess.Popen(
        isthmus.command("up", TWO_SHORES),
        env=isthmus.environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_interruptible,
    )
    line = process.stderr.readline()
    assert "networks n1, n2" in line

    process.send_signal(signal.SIGINT)

    assert process.wait(timeout=30) == 130
    assert isthmus.processes() == []
    assert list(isthmus.home.iterdir()) == []


def test_after_the_runtime_was_killed_down_leaves_nothing(isthmus, until):
    isthmus("up", str(EXAMPLES / "one-shore.yaml"), "--no-traffic")
    for line in isthmus.processes():
        if "localruntime.supervisor" in line:
            os.kill(int(line.split()[0]), signal.SIGKILL)

    until("the kernel has ended everything", lambda: not isthmus.processes())
    assert "does not answer" in isthmus("status").stderr
    assert isthmus("down").returncode == 0
    assert list(isthmus.home.iterdir()) == []


def test_a_second_up_is_refused_and_disturbs_nothing(isthmus):
    isthmus("up", str(EXAMPLES / "one-shore.yaml"), "--no-traffic")

    second = isthmus("up", str(EXAMPLES / "one-shore.yaml"))

    assert second.returncode == 1
    assert "one-shore runs already" in second.stderr
    assert isthmus("traffic", "-c", "3").returncode == 0


def test_a_mistake_is_refused_before_anything_starts(isthmus, tmp_path):
    topology = tmp_path / "wrong.yaml"
    text = Path(TWO_SHORES).read_text().replace("network: n2", "network: n3")
    topology.write_text(text)
    line = text[: text.index("network: n3")].count("\n") + 1

    done = isthmus("up", str(topology))

    assert done.returncode == 65
    assert f"{topology}:{line}: spec.clusters.west.network: 'n3' is not a network" in done.stderr
    assert done.stdout == ""
    assert isthmus.processes() == []


def test_a_taken_port_is_one_clear_line(isthmus, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        topology = tmp_path / "taken.yaml"
        topology.write_text((EXAMPLES / "one-shore.yaml").read_text().replace("c1: {}", f"c1: {{hostPort: {port}}}"))

        done = isthmus("up", str(topology))

    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"cannot start one-shore: cluster c1: port {port} of 127.0.0.1 is taken: choose another hostPort, or leave it out"
    ]
    assert list(isthmus.home.iterdir()) == []


def test_a_missing_program_is_one_clear_line(isthmus, tmp_path):
    for program in ("ip", "unshare", "nsenter", "mount"):
        (tmp_path / program).symlink_to("/bin/true")

    done = isthmus("up", TWO_SHORES, PATH=str(tmp_path))

    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "cannot start two-shores: the program `nft` is missing: install it, on Debian with `apt-get install nftables`"
    ]


def test_a_machine_without_namespaces_is_told_what_would_allow_them(isthmus, tmp_path):
    (tmp_path / "unshare").write_text(
        "#!/bin/sh\necho 'unshare: unshare failed: Operation not permitted' >&2\nexit 1\n"
    )
    (tmp_path / "unshare").chmod(0o755)

    done = isthmus("up", TWO_SHORES, PATH=f"{tmp_path}:{os.environ['PATH']}")

    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "does not allow namespaces: unshare: unshare failed: Operation not permitted; run as root, or" in line
    assert list(isthmus.home.iterdir()) == []
