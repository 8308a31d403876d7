"""Load: requests that a client sends all the time while something happens to the mesh, and what became of each.

They are sent from inside the client's Pod, so through its sidecar, by a few threads that keep their connections. An outcome is a moment, how long
it took, and which cluster answered or what went wrong.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from isthmus.localruntime.mesh_client import MeshClient
from isthmus.localruntime.traffic import HOST, PATH, PORT, inside

_STOP_SECONDS = 20
_SCRIPT = """
import http.client, json, sys, threading, time
host, port, path, threads, pause = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), float(sys.argv[5])
stop, lock = threading.Event(), threading.Lock()
def send():
    connection = None
    while not stop.wait(pause):
        began = time.time()
        cluster = error = ""
        try:
            connection = connection or http.client.HTTPConnection(host, port, timeout=10)
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read().decode()
            if response.status == 200:
                cluster = json.loads(body)["cluster"]
            else:
                error = f"HTTP {response.status}: {body[:120]}"
        except (OSError, ValueError, http.client.HTTPException) as problem:
            error, connection = f"{type(problem).__name__}: {problem}", None
        with lock:
            print(json.dumps([began, time.time() - began, cluster, error]), flush=True)
for _ in range(threads):
    threading.Thread(target=send).start()
sys.stdin.read()
stop.set()
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request: when it began, how long it took, who answered; or what went wrong."""

    began: float
    seconds: float
    cluster: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """`failing_seconds` is from the first failure to the end of the last; `slowest_seconds` of those that succeeded."""

    requests: int
    failed: int
    failing_seconds: float
    slowest_seconds: float
    by_cluster: dict[str, int]
    errors: dict[str, int]

    def __str__(self) -> str:
        answered = ", ".join(f"{count} by {cluster}" for cluster, count in sorted(self.by_cluster.items()))
        failed = (
            f", {self.failed} failed over {self.failing_seconds:.2f} s ({self.errors})"
            if self.failed
            else ", none failed"
        )
        return f"{self.requests} requests, {answered}{failed}, the slowest took {1000 * self.slowest_seconds:.0f} ms"


class Load:
    """`with Load(mesh, (cluster, namespace, pod)) as load:` … It ends with the block."""

    def __init__(
        self,
        mesh: MeshClient,
        where: tuple[str, str, str],
        *,
        threads: int = 4,
        per_second: float = 80,
        host: str = HOST,
    ) -> None:
        arguments = [host, str(PORT), PATH, str(threads), str(threads / per_second)]
        self._command, self._environment = inside(mesh, where, [sys.executable, "-S", "-E", "-c", _SCRIPT, *arguments])
        self._outcomes: list[Outcome] = []
        self._told = threading.Condition()

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, env=self._environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.goes_on(20)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._reader.join()

    def goes_on(self, count: int = 100, seconds: float = 30.0) -> None:
        """Waits for so many more outcomes. Raises TimeoutError."""
        with self._told:
            wanted = len(self._outcomes) + count
            if not self._told.wait_for(lambda: len(self._outcomes) >= wanted, seconds):
                raise TimeoutError(f"{len(self._outcomes)} outcomes after {seconds:g} s, {wanted} were expected")

    @property
    def outcomes(self) -> list[Outcome]:
        with self._told:
            return list(self._outcomes)

    def since(self, moment: float) -> Summary:
        """Of the requests that ended after a moment (time.time())."""
        return summary([outcome for outcome in self.outcomes if outcome.began + outcome.seconds >= moment])

    def until(self, moment: float) -> Summary:
        """Of the requests that ended before a moment (time.time())."""
        return summary([outcome for outcome in self.outcomes if outcome.began + outcome.seconds < moment])

    @property
    def summary(self) -> Summary:
        return summary(self.outcomes)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            outcome = Outcome(*json.loads(line))
            with self._told:
                self._outcomes.append(outcome)
                self._told.notify_all()


def summary(outcomes: list[Outcome]) -> Summary:
    """What became of these requests."""
    failed = [outcome for outcome in outcomes if outcome.error]
    first = min((outcome.began for outcome in failed), default=0.0)
    last = max((outcome.began + outcome.seconds for outcome in failed), default=0.0)
    return Summary(
        requests=len(outcomes),
        failed=len(failed),
        failing_seconds=last - first,
        slowest_seconds=max((outcome.seconds for outcome in outcomes if not outcome.error), default=0.0),
        by_cluster=dict(Counter(outcome.cluster for outcome in outcomes if not outcome.error)),
        errors=dict(Counter(outcome.error for outcome in failed)),
    )
