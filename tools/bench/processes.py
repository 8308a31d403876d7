"""The processes of a run: API servers, the control plane, and the drones. Each is started here, measured here, and ended here."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from isthmus.apiserver.settings import ApiServerSettings
from isthmus.kubernetes.kubeconfig import ContextEntry, render

_API_SERVER = "import sys; from isthmus.apiserver.process import main; sys.exit(main(sys.argv[1]))"
_CONTROL_PLANE = "import sys; from isthmus.controlplane.process import main; sys.exit(main())"
_PROFILED = "import cProfile, sys; from isthmus.controlplane.process import main; cProfile.run('main()', sys.argv[1])"
_TICKS = os.sysconf("SC_CLK_TCK")
_START_SECONDS = 60.0
_CLAIM_PORT = 15099
"""Of no other use: who has it has the address."""

_END_SECONDS = 20.0
"""Longer than an agent drains: one that is killed leaves its Envoy behind."""
_WRITING_SECONDS = 120.0


class BenchFailed(Exception):
    """The benchmark cannot go on: why, and what may be done."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used up: CPU seconds since its start; memory now and at most, in MB."""

    cpu: float
    memory: float
    memory_peak: float


class Child:
    """A process of ours, with its log in a file."""

    def __init__(
        self,
        name: str,
        command: list[str],
        environment: dict[str, str],
        log: Path,
        *,
        pass_fd: int = -1,
        folder: Path | None = None,
        last_words: Path | None = None,
    ) -> None:
        """`last_words` is a file that it writes when it ends: it gets more time to end, so that it can."""
        self.name = name
        self._last_words = last_words
        self._log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                command,
                env=environment,
                cwd=folder,
                stderr=file,
                stdout=file,
                pass_fds=(pass_fd,) if pass_fd >= 0 else (),
            )

    def said(self) -> str:
        """Its log, until now."""
        return self._log.read_text(errors="replace")

    def until_logged(self, text: str, seconds: float) -> None:
        """Raises BenchFailed."""
        self.until(lambda: text in self.said(), seconds)

    def until(self, serves: Callable[[], bool], seconds: float) -> None:
        """Raises BenchFailed."""
        end = time.monotonic() + seconds
        pause = 0.01
        while not serves():
            if self.process.poll() is not None or time.monotonic() > end:
                raise BenchFailed(f"{self.name} does not serve. Its log ends with:\n{self.said()[-2000:]}")
            try:
                self.process.wait(pause)
            except subprocess.TimeoutExpired:
                continue

    def stop(self) -> None:
        """Raises BenchFailed if it has not written what it was to write at its end."""
        self.process.terminate()
        try:
            self.process.wait(_END_SECONDS if self._last_words is None else _WRITING_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        if self._last_words is not None and not self._last_words.exists():
            raise BenchFailed(f"{self.name} has ended without writing {self._last_words}")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def own_address() -> Iterator[str]:
    """A loopback address for a control plane, whose ports are always the same ones: no other benchmark has it meanwhile. Raises BenchFailed."""
    for number in range(1, 255):
        address = f"127.0.91.{number}"
        with socket.socket() as claim:
            try:
                claim.bind((address, _CLAIM_PORT))
            except OSError:
                continue
            yield address
            return
    raise BenchFailed("every address of 127.0.91.0/24 is taken by a benchmark")


def usage_of(process: int) -> Usage:
    """From /proc. Raises BenchFailed when there is no such process."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        status = Path(f"/proc/{process}/status").read_text()
    except OSError as error:
        raise BenchFailed(f"process {process} cannot be measured: {error}") from None
    sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("Vm")}
    return Usage((int(stat[11]) + int(stat[12])) / _TICKS, sizes["VmRSS"], sizes["VmHWM"])


def api_server(name: str, folder: Path) -> tuple[Child, Path]:
    """An embedded API server and the path of its administrator's kubeconfig."""
    directory = folder / name
    directory.mkdir()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    settings = ApiServerSettings(cluster_id=name, directory=str(directory / "state"), inherited_fds=[listener.fileno()])
    path = directory / "settings.json"
    path.write_bytes(msgspec.json.encode(settings))
    child = Child(
        f"the API server of {name}",
        [sys.executable, "-c", _API_SERVER, str(path)],
        dict(os.environ),
        directory / "log",
        pass_fd=listener.fileno(),
    )
    listener.close()
    child.until_logged("serving", _START_SECONDS)
    state = directory / "state"
    entry = ContextEntry(
        name=name,
        server=f"https://127.0.0.1:{port}",
        ca_pem=(state / "ca.crt").read_text(),
        token=(state / "admin-token").read_text().strip(),
    )
    kubeconfig = directory / "kubeconfig"
    kubeconfig.write_text(render([entry]))
    return child, kubeconfig


def control_plane(kubeconfig: Path, cluster: str, bind: str, log: Path, profile: str) -> Child:
    """Ours, as users run it; settings of the environment go through to it. With `profile`, it writes that file when it ends."""
    environment = {
        **os.environ,
        "KUBECONFIG": str(kubeconfig),
        "CLUSTER_ID": cluster,
        "BIND_ADDRESS": bind,
        "MALLOC_ARENA_MAX": "2",
    }
    if not profile:
        return Child("the control plane", [sys.executable, "-c", _CONTROL_PLANE], environment, log)
    # One of an earlier run would be taken for this one's.
    Path(profile).unlink(missing_ok=True)
    program = [sys.executable, "-c", _PROFILED, profile]
    return Child("the control plane", program, environment, log, last_words=Path(profile))


def reasons(error: BaseException) -> str:
    """What went wrong in a run, each reason once, however many tasks it ended."""
    leaves, groups = [], [error]
    while groups:
        found = groups.pop(0)
        if isinstance(found, BaseExceptionGroup):
            groups += found.exceptions
        else:
            leaves.append(str(found) or type(found).__name__)
    return "; ".join(dict.fromkeys(leaves))


@dataclass(frozen=True, slots=True)
class Reached:
    """When a change had reached drones (CLOCK_MONOTONIC, ns): the first, half, 99 %, the last; and how many it has not."""

    wanted: int
    first: int
    half: int
    most: int
    last: int
    missing: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """Of all drones since their start."""

    received_bytes: int
    sent_bytes: int
    messages: int
    failures: int
    complete: int
    cpu: float


class Drones:
    """The load generator's process."""

    def __init__(
        self, target: tuple[str, int], server_name: str, roots: str, specification: Path, *, delta: bool, window: int
    ) -> None:
        program = built()
        host, port = target
        protocol = "delta" if delta else "sotw"
        self._process = subprocess.Popen(
            [program, host, str(port), server_name, roots, str(specification), protocol, str(window)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.count = int(self._answer()[1])

    def connect(self, count: int, at_once: int, seconds: float) -> Reached:
        return self._reached(f"connect {count} {at_once} {seconds}")

    def storm(self, at_once: int, seconds: float) -> Reached:
        return self._reached(f"storm {at_once} {seconds}")

    def expect(self, text: str) -> None:
        self._say(f"expect {text}")

    def wait(self, seconds: float) -> Reached:
        """Until all have been sent what is expected."""
        return self._reached(f"wait 0 {seconds}")

    def wait_for(self, count: int, seconds: float) -> Reached:
        """Until so many have."""
        return self._reached(f"wait {count} {seconds}")

    def traffic(self) -> Traffic:
        fields = self._say("stats")
        received, sent, messages, failures, complete = (int(field) for field in fields[1:6])
        return Traffic(received, sent, messages, failures, complete, float(fields[6]))

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def _reached(self, command: str) -> Reached:
        return Reached(*(int(field) for field in self._say(command)[1:]))

    def _say(self, command: str) -> list[str]:
        assert self._process.stdin is not None, "piped"
        self._process.stdin.write(command + "\n")
        return self._answer()

    def _answer(self) -> list[str]:
        assert self._process.stdout is not None, "piped"
        line = self._process.stdout.readline()
        if not line:
            raise BenchFailed("the load generator has stopped: see above")
        return line.split()


def built() -> str:
    """The path of the load generator. Raises BenchFailed if it has not been compiled."""
    program = Path(__file__).with_name("drones")
    if not program.exists():
        missing = "" if shutil.which("cc") else " There is no C compiler (cc) on this machine: install gcc or clang."
        raise BenchFailed(
            f"the load generator is not compiled: `make bench` does it, with cc and OpenSSL's headers (libssl-dev).{missing}"
        )
    return str(program)
