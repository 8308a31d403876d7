"""A mesh that really runs: two clusters on two networks with the same range, every sample in each, booted once for all tests."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kubernetes
import pytest

from isthmus.localruntime.entering import host_pid
from isthmus.localruntime.launch import supervisor_of
from isthmus.localruntime.load import Load
from isthmus.localruntime.mesh_client import MeshClient, MeshRefused, MeshUnavailable
from isthmus.localruntime.state import StateFolder
from isthmus.localruntime.traffic import HELLOWORLD, Target, ask, clients, run_inside

ROOT = Path(__file__).parents[2]
_DEADLINE_SECONDS = 120
_LINES_SHOWN, _WIDTH_SHOWN = 12, 180
"""Of what a command prints: this much is part of a test's transcript."""
_COMMAND_SECONDS = 330
"""Longer than `isthmus up` waits. Machines that run these tests are busy with others, too; who is quick never comes near either."""


@dataclass
class Isthmus:
    """The command, with a state folder of its own."""

    home: Path

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"ISTHMUS_STATE": str(self.home)}

    def __call__(self, *arguments: str, **changed: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*arguments),
            env=self.environment | changed,
            capture_output=True,
            text=True,
            timeout=_COMMAND_SECONDS,
            check=False,
        )
        print(f"$ isthmus {' '.join(arguments)}", f"→ {done.returncode}" if done.returncode else "")
        shown = [] if "json" in arguments else done.stdout.splitlines()
        for line in [*shown, *done.stderr.splitlines()][:_LINES_SHOWN]:
            print(f"  {line[:_WIDTH_SHOWN]}")
        return done

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "isthmus.cli.app", *arguments]

    def said(self) -> str:
        """The end of each log of each mesh: what a failure is to be understood by, before `down` takes it away."""
        logs = sorted(self.home.glob("*/logs/**/*.log"))
        return "\n".join(f"--- {log.relative_to(self.home)}\n{log.read_text(errors='replace')[-1500:]}" for log in logs)

    def processes(self) -> list[str]:
        """Every process on this machine that belongs to a mesh of this state folder."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                except OSError:
                    continue
                if str(self.home) in line:
                    found.append(f"{entry.name} {line}")
        return found


def _by(answer: dict[str, str]) -> str:
    """Who answered; other paths than the usual one do not tell."""
    return answer.get("error") or (f"{answer['version']} in {answer['cluster']}" if "version" in answer else "somebody")


@dataclass
class Mesh:
    """The running mesh, as tests ask it."""

    isthmus: Isthmus
    name: str

    @property
    def client(self) -> MeshClient:
        return MeshClient(StateFolder(self.isthmus.home / self.name))

    def status(self) -> dict[str, Any]:
        return self.client.status()

    def cluster(self, cluster: str) -> dict[str, Any]:
        return next(entry for entry in self.status()["clusters"] if entry["id"] == cluster)

    def pods(self, cluster: str, app: str) -> list[dict[str, Any]]:
        return [pod for pod in self.cluster(cluster)["pods"] if pod["labels"].get("app") == app]

    def gateway(self, cluster: str) -> str:
        """The address of the cluster's network gateway on the transit network."""
        return str(self.cluster(cluster)["gateways"][0]["addresses"][0])

    @contextmanager
    def load(self, cluster: str, **how: Any) -> Iterator[Load]:
        """Requests of the cluster's client to helloworld, sent all the time."""
        where = next(found for found in clients(self.status()) if found[0] == cluster)
        with Load(self.client, where, **how) as load:
            yield load
        print(f"meanwhile, from {cluster}: {load.summary}")

    def control_planes_of(self, cluster: str) -> dict[str, dict[str, Any]]:
        """Which control plane each proxy of a cluster is connected to now: cluster it runs in → proxies, with what they were sent."""
        found: dict[str, dict[str, Any]] = {}
        for other in self.status()["clusters"]:
            try:
                rows = self.client.control_plane(other["id"], "debug/syncz")
            except (MeshRefused, MeshUnavailable):
                continue
            mine = {row["proxy"].partition(".")[0]: row["resources"] for row in rows if row["cluster_id"] == cluster}
            # An agent's stream has a name table; an Envoy's has listeners.
            found[other["id"]] = {proxy: types for proxy, types in mine.items() if "listener" in types}
        return {control_plane: proxies for control_plane, proxies in found.items() if proxies}

    def ask(self, cluster: str, count: int, **how: Any) -> list[dict[str, str]]:
        """Requests of the cluster's client to helloworld, or to another `host` and `port`."""
        where = next(found for found in clients(self.status()) if found[0] == cluster)
        target = Target(how.pop("host", HELLOWORLD.host), how.pop("port", HELLOWORLD.port))
        answers = ask(self.client, *where, count=count, target=target, **how)
        by = Counter(_by(answer) for answer in answers)
        print(f"asked from {cluster}: {', '.join(f'{times} by {who}' for who, times in sorted(by.items()))}")
        return answers

    def python(self, cluster: str, script: str, *arguments: str) -> str:
        """What a script prints that runs inside the cluster's client."""
        where = (cluster, "sample", "client")
        done = run_inside(self.client, where, [sys.executable, "-c", script, *arguments])
        assert done.returncode == 0, done.stderr
        return done.stdout

    def envoy(self, cluster: str, namespace: str, pod: str, page: str) -> str:
        return self.client.envoy(cluster, namespace, pod, page).decode()

    def counter(self, cluster: str, namespace: str, pod: str, name: str) -> int:
        """A counter of a Pod's Envoy, by its whole name."""
        for line in self.envoy(cluster, namespace, pod, f"stats?filter={name}").splitlines():
            found, _, value = line.rpartition(": ")
            if found == name:
                return int(value)
        return 0

    def apps(self, cluster: str) -> kubernetes.client.AppsV1Api:
        return kubernetes.client.AppsV1Api(self._api(cluster))

    def core(self, cluster: str) -> kubernetes.client.CoreV1Api:
        return kubernetes.client.CoreV1Api(self._api(cluster))

    def apply(self, cluster: str, rule: dict[str, Any]) -> None:
        """An object of networking.istio.io, made or replaced."""
        self._delete(cluster, rule, missing_ok=True)
        api = kubernetes.client.CustomObjectsApi(self._api(cluster))
        api.create_namespaced_custom_object(*self._where(rule), rule)
        print(
            f"in {cluster}: {rule['kind']} {rule['metadata']['name']} is there: {json.dumps(rule.get('spec'))[:_WIDTH_SHOWN]}"
        )

    def replace(self, cluster: str, rule: dict[str, Any]) -> None:
        """One that is there, in one step."""
        api = kubernetes.client.CustomObjectsApi(self._api(cluster))
        where = (*self._where(rule), rule["metadata"]["name"])
        version = api.get_namespaced_custom_object(*where)["metadata"]["resourceVersion"]
        body = rule | {"metadata": rule["metadata"] | {"resourceVersion": version}}
        api.replace_namespaced_custom_object(*where, body)
        print(
            f"in {cluster}: {rule['kind']} {rule['metadata']['name']} is now {json.dumps(rule.get('spec'))[:_WIDTH_SHOWN]}"
        )

    def remove(self, cluster: str, rule: dict[str, Any], *, missing_ok: bool = False) -> None:
        self._delete(cluster, rule, missing_ok=missing_ok)
        print(f"in {cluster}: {rule['kind']} {rule['metadata']['name']} is removed")

    def _delete(self, cluster: str, rule: dict[str, Any], *, missing_ok: bool) -> None:
        api = kubernetes.client.CustomObjectsApi(self._api(cluster))
        try:
            api.delete_namespaced_custom_object(*self._where(rule), rule["metadata"]["name"])
        except kubernetes.client.ApiException as error:
            if error.status != 404 or not missing_ok:
                raise

    def _where(self, rule: dict[str, Any]) -> tuple[str, str, str, str]:
        group, _, version = rule["apiVersion"].partition("/")
        return group, version, rule["metadata"]["namespace"], re.sub("y$", "ie", rule["kind"].lower()) + "s"

    def scale(self, cluster: str, deployment: str, replicas: int, namespace: str = "sample") -> None:
        body = {"spec": {"replicas": replicas}}
        self.apps(cluster).patch_namespaced_deployment_scale(deployment, namespace, body)
        print(f"in {cluster}: {deployment} is scaled to {replicas}")

    @contextmanager
    def scaled(self, cluster: str, deployment: str, replicas: int, namespace: str = "sample") -> Iterator[None]:
        """So many meanwhile; whatever happens, as many Pods as before afterwards, and all of them ready."""
        before = self.apps(cluster).read_namespaced_deployment(deployment, namespace).spec.replicas

        def is_as_before() -> bool:
            own = [
                pod["ready"].partition("/")
                for pod in self.cluster(cluster)["pods"]
                if pod["namespace"] == namespace and pod["name"].startswith(f"{deployment}-")
            ]
            return len(own) == before and all(ready == wanted for ready, _, wanted in own)

        self.scale(cluster, deployment, replicas, namespace)
        try:
            yield
        finally:
            self.scale(cluster, deployment, before, namespace)
            until(f"{before} of {deployment} again", is_as_before)

    @contextmanager
    def applied(self, cluster: str, rule: dict[str, Any]) -> Iterator[None]:
        """An object of networking.istio.io that is there meanwhile; the test may remove it itself."""
        self.apply(cluster, rule)
        try:
            yield
        finally:
            self.remove(cluster, rule, missing_ok=True)

    def kill(self, inner_pid: int) -> None:
        """kill -9, by the number that the process has inside the runtime."""
        pid = host_pid(supervisor_of(self.running()), inner_pid)
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        os.kill(pid, signal.SIGKILL)
        print(f"kill -9 {command[:_WIDTH_SHOWN]}")

    def container_pid(self, cluster: str, namespace: str, pod: str, container: str) -> int:
        containers = self.client.pod(cluster, namespace, pod)["containers"]
        return int(next(entry["pid"] for entry in containers if entry["name"] == container))

    def running(self):
        found = self.client.state.running()
        assert found is not None, "the mesh runs"
        return found

    def _api(self, cluster: str) -> kubernetes.client.ApiClient:
        return kubernetes.config.new_client_from_config(str(self.client.state.kubeconfig), context=cluster)


@dataclass
class Step:
    """A command of a guide, and what it is said to print; `…` stands for anything."""

    command: str
    shown: list[str]

    def is_shown(self, output: str) -> bool:
        """Whether each line is there, in this order; how much space is between words does not matter."""
        lines = iter([" ".join(line.split()) for line in output.splitlines()])
        patterns = [re.escape(" ".join(line.split())).replace("…", ".*") for line in self.shown]
        return all(any(re.fullmatch(pattern, line) for line in lines) for pattern in patterns)


def steps(page: Path) -> list[Step]:
    """The commands in a page's `console` blocks: lines that begin with `$ `, each with what follows it."""
    found: list[Step] = []
    for block in re.findall(r"^```console\n(.*?)^```$", page.read_text(), re.S | re.M):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append(Step(line[2:], []))
            elif line.strip():
                found[-1].shown.append(line)
    return found


def run_step(isthmus: Isthmus, step: Step) -> None:
    """From the project's folder, with the command found as a user finds it."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin:/sbin"
    done = subprocess.run(
        ["bash", "-c", step.command],
        env=isthmus.environment | {"PATH": path},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=_COMMAND_SECONDS,
        check=False,
    )
    print(f"$ {step.command}\n{done.stdout}")
    assert done.returncode == 0, (
        f"{step.command}: exit code {done.returncode}\n{done.stdout}{done.stderr}{isthmus.said()}"
    )
    assert step.is_shown(done.stdout), f"{step.command} shows\n{done.stdout}{done.stderr}not\n" + "\n".join(step.shown)


def until(what: str, holds: Callable[[], Any]) -> Any:
    """Waits for something that other processes do; asks again and again, up to a deadline."""
    pause, began, said = threading.Event(), time.monotonic(), io.StringIO()
    try:
        while time.monotonic() < began + _DEADLINE_SECONDS:
            # Of what is asked again and again, the last answer alone is worth showing.
            with redirect_stdout(said := io.StringIO()):
                found = holds()
            if found:
                return found
            pause.wait(0.05)
        raise AssertionError(f"not in {_DEADLINE_SECONDS} s: {what}")
    finally:
        print(f"{said.getvalue()}waited {time.monotonic() - began:.1f} s: {what}")


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    """A short path: sockets' names are limited."""
    made = Path(tempfile.mkdtemp(prefix="isthmus-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def isthmus(tmp_path: Path) -> Iterator[Isthmus]:
    """The command, for tests that boot meshes of their own. Whatever they leave is ended."""
    made = Path(tempfile.mkdtemp(prefix="isthmus-"))
    command = Isthmus(made)
    yield command
    command("down", "--all")
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="session")
def mesh(home: Path) -> Iterator[Mesh]:
    command = Isthmus(home)
    try:
        done = command("up", str(Path(__file__).parent / "every-sample.yaml"), "--no-traffic")
        assert done.returncode == 0, done.stderr + done.stdout + command("status").stdout + command.said()
        yield Mesh(command, "every-sample")
    finally:
        # Also one that did not come up in time runs.
        command("down", "--all")


@pytest.fixture(scope="module")
def guided() -> Iterator[Callable[[str], Mesh]]:
    """`guided("NAME")` does all that a guide's page says, but its last command, `isthmus down`: that is done at the end."""
    made = Path(tempfile.mkdtemp(prefix="isthmus-"))
    command = Isthmus(made)

    def follow(name: str) -> Mesh:
        *todo, last = steps(ROOT / "docs" / "guides" / f"{name}.md")
        assert last.command == "isthmus down"
        try:
            for step in todo:
                run_step(command, step)
        except BaseException:
            # So that the next guide finds its place.
            command("down", "--all")
            raise
        return Mesh(command, name)

    yield follow
    command("down", "--all")
    left = command.processes()
    shutil.rmtree(made, ignore_errors=True)
    assert left == []


@pytest.fixture(scope="session")
def mesh_of() -> Callable[[Isthmus, str], Mesh]:
    """A running mesh by its name, for tests that boot one themselves."""
    return Mesh


@pytest.fixture(scope="session", name="until")
def until_fixture() -> Callable[[str, Callable[[], Any]], Any]:
    return until


@pytest.fixture(scope="session", name="loads")
def loads_fixture() -> Callable[[str], Any]:
    return json.loads


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Each scenario says what it did and saw, also when nothing is wrong with it; what fails is shown by pytest itself."""
    report = yield
    said = [text.strip("\n") for name, text in report.sections if name == f"Captured stdout {report.when}"]
    reporter: Any = item.config.pluginmanager.get_plugin("terminalreporter")
    if report.passed and reporter is not None and (any(said) or report.when == "call"):
        reporter.ensure_newline()
        words = item.name.removeprefix("test_").replace("_", " ") if report.when == "call" else report.when
        reporter.write_line(f"{item.location[0]}: {words} ({report.duration:.1f} s)", bold=True)
        for line in "\n".join(said).splitlines():
            reporter.write_line(f"    {line}")
    return report


_FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Keeps what a test has measured: it is shown at the end of the run, whether or not anything failed."""

    def keep(text: str) -> None:
        request.config.stash.setdefault(_FIGURES, []).append(f"{request.node.name}: {text}")

    return keep


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    figures = config.stash.get(_FIGURES, [])
    if figures:
        terminalreporter.section("figures")
        for line in figures:
            terminalreporter.write_line(line)
