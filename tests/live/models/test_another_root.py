"""The guide's rotation; and then one cluster is evicted: it is refused, what it has open ends, and the other goes on."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import pytest

from isthmus.cli.errors import BAD_USAGE
from isthmus.localruntime.traffic import inside

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def mesh(guided):
    return guided("another-root")


def trust(mesh: Any, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = mesh.isthmus("trust", *arguments, KUBECONFIG=str(mesh.client.state.kubeconfig))
    print(f"$ isthmus trust {' '.join(arguments)}\n{done.stdout}{done.stderr}")
    return done


class Caller:
    """Of a cluster: a process in its client that keeps a connection to a Pod of the other cluster open, and opens a new one again and again."""

    SCRIPT = """
import json, socket, sys, threading, time
def opened():
    connection = socket.create_connection((sys.argv[1], 9000), timeout=2)
    return connection, connection.makefile("rb")
def answered(connection, lines):
    connection.sendall(b"who\\n")
    return lines.readline().split()[:1]
kept = None
while kept is None or answered(*kept) != [sys.argv[2].encode()]:
    kept = opened()
print(json.dumps(["kept", time.time()]), flush=True)
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
while not stop.wait(0.1):
    if kept is not None:
        try:
            if answered(*kept) != [sys.argv[2].encode()]:
                raise OSError("closed")
        except OSError as error:
            kept = None
            print(json.dumps(["ended", time.time()]), flush=True)
    try:
        who = answered(*opened())
    except OSError:
        who = []
    print(json.dumps(["new", time.time(), who[0].decode() if who else ""]), flush=True)
"""

    def __init__(self, mesh: Any, cluster: str, host: str, answers: str) -> None:
        pod = mesh.pods(cluster, "client")[0]["name"]
        command, environment = inside(
            mesh.client, (cluster, "sample", pod), [sys.executable, "-c", self.SCRIPT, host, answers]
        )
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        assert json.loads(self._process.stdout.readline())[0] == "kept"

    def seen(self) -> list[list[Any]]:
        """All that it has seen; it ends."""
        out, _ = self._process.communicate(timeout=20)
        return [json.loads(line) for line in out.splitlines()]


def test_an_evicted_cluster_is_refused_its_open_connections_end_and_the_other_goes_on(mesh, figure):
    refused = trust(mesh, "evict", "west")
    caller = Caller(mesh, "west", "db-0.east.db", "east")

    with mesh.load("east", host="db-0.east.db") as east:
        began = time.time()
        evicted = trust(mesh, "evict", "west", "--yes")
        took = time.time() - began
        east.goes_on(200)
    seen = caller.seen()

    last = max(at for kind, at, *rest in seen if kind == "new" and rest == ["east"])
    [ended] = [at for kind, at, *_ in seen if kind == "ended"]
    figure(
        f"the last new connection from west was let in after {last - began:.1f} s, the open one ended after {ended - began:.1f} s "
        f"(the command took {took:.1f} s); within east: {east.summary}"
    )
    assert (refused.returncode, evicted.returncode) == (BAD_USAGE, 0), evicted.stderr
    assert "say --yes" in refused.stderr
    assert "nobody trusts west any longer" in evicted.stderr
    assert last < began + took
    assert ended < began + took + 10
    assert (east.summary.failed, east.summary.by_cluster.keys()) == (0, {"east"})
    assert not [
        row
        for row in mesh.client.control_plane("east", "debug/clusterz")
        if (row["id"], row["state"]) == ("west", "live")
    ]
