"""kubectl against the server that is held to the laws: what people type, and what they are told.

Each file in transcripts/ tells of one namespace: prose, `$ …` (a command of the shell, in transcripts/files), and what it says. Names, moments and
other things that are another server's or another day's are written in capitals. ISTHMUS_REWRITE=1 writes the answers anew: do it with a real server
(`ISTHMUS_REWRITE=1 make conformance-real REAL='laws -- -k kubectl'`), and read every changed line.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.kubeconfig import ApiAddress, ContextEntry, render
from isthmus.localruntime.controllers.cache import ClusterCache
from isthmus.localruntime.controllers.runner import Controllers
from isthmus.localruntime.planning import plan_of
from isthmus.localruntime.topology import load
from isthmus.model.proxy_config import ProxyConfigs

HERE = Path(__file__).parent
TRANSCRIPTS = HERE / "transcripts"
TOPOLOGY = HERE.parent.parent / "examples" / "one-shore.yaml"
_SUFFIX = "[bcdfghjklmnpqrstvwxz2456789]"
_SAME = [
    (re.compile(pattern), written)
    for pattern, written in (
        (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "UID"),
        (r"\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", "TIME"),
        (r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w{3} 20\d\d \d\d:\d\d:\d\d [+-]\d{4}", "TIME"),
        (r'(resourceVersion"?: ?)"\d+"', r'\1"VERSION"'),
        (r"(Resource Version:) +\d+", r"\1  VERSION"),
        (r"(?<![\d.])10\.96\.\d+\.\d+", "CLUSTER-IP"),
        (r"(?<=\s)\d+(d|h|m|s)(\d+(h|m|s))?(?=\s|$)", "AGE"),
        (rf"-{_SUFFIX}{{8,10}}-{_SUFFIX}{{5}}\b", "-HASH-NAME"),
        (rf"(?<=shop)-{_SUFFIX}{{8,10}}\b", "-HASH"),
        (rf"(pod-template-hash\S*?[=:]\s*\"?){_SUFFIX}{{8,10}}\b", r"\1HASH"),
        (r"(?<=\S) {2,}", "  "),
    )
]


def same(text: str, namespace: str) -> list[str]:
    """Without what differs from day to day; columns are told apart by two spaces, however wide they are."""
    text = text.replace(namespace, "NAMESPACE")
    for pattern, written in _SAME:
        text = pattern.sub(written, text)
    return [line.rstrip() for line in text.splitlines()]


class Shell:
    """Runs what people type, in a namespace of its own."""

    def __init__(self, address: ApiAddress, home: Path) -> None:
        self.namespace = f"law-{secrets.token_hex(4)}"
        entry = ContextEntry(name="law", server=address.server, ca_pem=address.ca_pem, token=address.token)
        (home / "kubeconfig").write_text(render([entry]))
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "KUBECONFIG": str(home / "kubeconfig"),
            "KUBE_EDITOR": "sed -i s/red/green/",
        }

    def run(self, line: str) -> str:
        """What it prints, and its exit code if that is none of success."""
        done = subprocess.run(
            ["sh", "-c", line.replace("NAMESPACE", self.namespace)],
            env=self._environment,
            cwd=TRANSCRIPTS / "files",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        failed = f"(exit {done.returncode})\n" if done.returncode else ""
        return done.stdout + done.stderr + failed

    def answered(self, text: str) -> str:
        """The transcript with every answer as it is now. Answers are indented by four, and end with the indentation."""
        found: list[str] = []
        for line in text.splitlines():
            if line.startswith("    ") and not line.startswith("    $ "):
                continue
            found.append(line)
            if line.startswith("    $ "):
                said = same(self.run(line.strip().removeprefix("$ ")), self.namespace)
                found += [f"    {each}".rstrip() if each else "    ." for each in said]
        return "\n".join(found) + "\n"


@pytest.fixture(scope="module")
def controlled(address: tuple[ApiAddress, bool]) -> Iterator[ApiAddress]:
    """A server with the controllers that a cluster has. A real one has its own; the embedded one has those of the local runtime."""
    where, is_embedded = address
    if not is_embedded:
        yield where
        return
    loop, stop, ready = asyncio.new_event_loop(), asyncio.Event(), threading.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(_control(where, stop, ready),), daemon=True)
    thread.start()
    assert ready.wait(30)
    yield where
    loop.call_soon_threadsafe(stop.set)
    thread.join(30)


async def _control(address: ApiAddress, stop: asyncio.Event, ready: threading.Event) -> None:
    plan = plan_of(load(TOPOLOGY)).clusters[0]
    async with ApiClient(address, user_agent="isthmus-local") as client, asyncio.TaskGroup() as tasks:
        cache = ClusterCache(client)
        controllers = Controllers(plan, client, cache, address.ca_pem, ProxyConfigs)
        running = [tasks.create_task(each.run()) for each in (cache, controllers)]
        await cache.synced()
        ready.set()
        await stop.wait()
        for task in running:
            task.cancel()


@pytest.fixture
def shell(controlled: ApiAddress, tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(controlled, tmp_path)
    shell.run("kubectl create namespace NAMESPACE; kubectl config set-context --current --namespace=NAMESPACE")
    shell.run("kubectl wait serviceaccount/default --for=create --timeout=30s")
    yield shell
    shell.run("kubectl delete namespace NAMESPACE --wait=false")


@pytest.mark.parametrize("file", sorted(TRANSCRIPTS.glob("*.md")), ids=lambda file: file.stem)
def test_transcript(file: Path, shell: Shell) -> None:
    now = shell.answered(file.read_text())

    if os.environ.get("ISTHMUS_REWRITE"):
        file.write_text(now)
    assert now == file.read_text()
