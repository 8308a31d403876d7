"""make interop-istio: a workload with an agent of Istio's, unmodified, beside one with ours, under our control plane.

Runs as root of a network namespace of its own (`unshare --map-root-user --net`). Each workload is in a further one, as a Pod is, with its connections
captured; an API server and a control plane are where both can reach them. The exit code is 1 if anything failed.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import mesh, workloads
from bench.processes import BenchFailed, Child, api_server, control_plane

import isthmus.localruntime.samples as samples
from isthmus.agent.capture import ByMark, rules
from isthmus.agent.envoy_binary import envoy_path
from isthmus.api.crds import all_crds
from isthmus.injection.settings import Capture
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.kubeconfig import load_file
from isthmus.kubernetes.resources import SERVICES

Check = tuple[str, Callable[[], str], Callable[[str], bool]]

_ROUTER, _PORT, _SPACE = "10.0.255.254", 5000, "shop"
_READY_SECONDS = 90.0
_CAPTURED = rules(ByMark(), Capture(outbound_ranges="10.96.0.0/12", excluded_outbound_ports="15012,15013"), dns=False)
"""Only what is sent to Services: neither agent's Envoy marks its sockets here, and what they connect to are endpoints."""

_ASK = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())"


@dataclass(frozen=True)
class Pod:
    """A workload's network namespace: `holder` is the process that keeps it."""

    name: str
    ip: str
    holder: int
    folder: Path

    @property
    def identity(self) -> str:
        return f"spiffe://cluster.local/ns/{_SPACE}/sa/{self.name}"

    def command(self, *words: str) -> list[str]:
        return ["nsenter", "--target", str(self.holder), "--net", "--", *words]

    def ask(self, url: str) -> str:
        """What is answered, or why nothing is."""
        done = subprocess.run(
            self.command(sys.executable, "-c", _ASK, url), capture_output=True, text=True, timeout=30, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else done.stderr.strip().rpartition("\n")[2]


def pods(stack: ExitStack, folder: Path) -> Iterator[Pod]:
    """Two, on one bridge with the router."""
    for words in ("link set lo up", "link add br0 type bridge", f"addr add {_ROUTER}/16 dev br0", "link set br0 up"):
        subprocess.run(["ip", *words.split()], check=True)
    for name, ip in (("theirs", "10.0.0.1"), ("ours", "10.0.0.2")):
        kept = ["unshare", "--net", "sh", "-c", "echo inside && exec sleep infinity"]
        holder = stack.enter_context(subprocess.Popen(kept, stdout=subprocess.PIPE))
        stack.callback(holder.kill)
        assert holder.stdout is not None, "piped"
        holder.stdout.readline()
        pod = Pod(name, ip, holder.pid, folder / name)
        subprocess.run(
            ["ip", "link", "add", name, "type", "veth", "peer", "eth0", "netns", str(holder.pid)], check=True
        )
        for words in (f"link set {name} master br0", f"link set {name} up"):
            subprocess.run(["ip", *words.split()], check=True)
        for words in (
            "link set lo up",
            f"addr add {ip}/16 dev eth0",
            "link set eth0 up",
            f"route add default via {_ROUTER}",
        ):
            subprocess.run(pod.command("ip", *words.split()), check=True)
        subprocess.run(pod.command("nft", "-f", "-"), input=_CAPTURED, text=True, check=True)
        for part in ("var/run/secrets/tokens", "var/run/secrets/istio", "etc/istio/proxy"):
            (pod.folder / part).mkdir(parents=True)
        yield pod


async def fill(client: ApiClient, found: list[Pod]) -> dict[str, str]:
    """The mesh, with mutual TLS and nothing else; each Service's address."""
    await mesh.create(client, all_crds())
    for name in (workloads.SYSTEM, _SPACE):
        await mesh.create(client, [_object("v1", "Namespace", name, "")])
    strict = _object("security.istio.io/v1", "PeerAuthentication", "default", spec={"mtls": {"mode": "STRICT"}})
    await mesh.create(client, [strict])
    addresses = {}
    for pod in found:
        place = workloads.ProxyPlace(0, 0, _SPACE, pod.name, pod.ip)
        body = workloads.pod(place)
        body["spec"]["serviceAccountName"] = pod.name
        ports = [{"name": "http", "port": _PORT, "targetPort": _PORT}]
        service = _object("v1", "Service", pod.name, spec={"selector": {"app": pod.name}, "ports": ports})
        slice_ = workloads.endpoint_slice(_SPACE, pod.name, [place])
        slice_["ports"][0]["port"] = _PORT
        await mesh.create(client, [_object("v1", "ServiceAccount", pod.name)])
        await mesh.create(client, [body, service, slice_])
        addresses[pod.name] = (await client.get(SERVICES, pod.name, _SPACE))["spec"]["clusterIP"]
    return addresses


def _object(version: str, kind: str, name: str, namespace: str = _SPACE, **rest: Any) -> dict[str, Any]:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **rest}


async def credentials(client: ApiClient, pod: Pod) -> None:
    """What is mounted into a Pod."""
    token = await client.request_token(_SPACE, pod.name, audiences=("istio-ca",), seconds=3600)
    (pod.folder / "var/run/secrets/tokens/istio-token").write_text(token)
    (pod.folder / "var/run/secrets/istio/root-cert.pem").write_text(await mesh.roots_of(client))


def agents(istio: Path, theirs: Pod, ours: Pod) -> Iterator[tuple[Pod, list[str], dict[str, str]]]:
    """Pod, command and environment of each. They are told the same; Istio's reads its files from where it is started."""
    for pod in (theirs, ours):
        config = {"discoveryAddress": f"{_ROUTER}:15012"}
        told = {
            "POD_NAME": f"{pod.name}-0",
            "POD_NAMESPACE": _SPACE,
            "INSTANCE_IP": pod.ip,
            "SERVICE_ACCOUNT": pod.name,
            "ISTIO_META_CLUSTER_ID": "cluster-0",
            "ISTIO_META_DNS_CAPTURE": "true",
        }
        if pod is theirs:
            config["binaryPath"] = envoy_path()
            told |= {"ISTIOD_SAN": "istiod.istio-system.svc", "ISTIO_BOOTSTRAP": str(istio / "envoy_bootstrap.json")}
            command = [str(istio / "pilot-agent"), "proxy", "sidecar", "--domain", f"{_SPACE}.svc.cluster.local"]
        else:
            secrets = pod.folder / "var/run/secrets"
            command = [
                sys.executable,
                "-m",
                "isthmus.cli.app",
                "agent",
                "sidecar",
                "--directory",
                str(pod.folder / "own"),
            ]
            command += ["--token-file", str(secrets / "tokens/istio-token")]
            command += ["--roots-file", str(secrets / "istio/root-cert.pem")]
        yield pod, pod.command(*command), told | {"PROXY_CONFIG": json.dumps(config)}


def checks(theirs: Pod, ours: Pod, addresses: dict[str, str]) -> Iterator[Check]:
    """What is looked at, the answer, and whether it is right."""

    def called(caller: Pod, callee: Pod) -> Callable[[], str]:
        return lambda: caller.ask(f"http://{addresses[callee.name]}:{_PORT}/whoami")

    def seen(caller: Pod, callee: Pod) -> Callable[[str], bool]:
        names = {"pod": callee.name, "caller": caller.identity, "self": callee.identity}
        return lambda text: text.startswith("{") and json.loads(text).items() >= names.items()

    admin = "http://127.0.0.1:15000"
    yield (
        "Istio's agent has a certificate of ours",
        lambda: theirs.ask(f"{admin}/certs"),
        lambda text: theirs.identity in text,
    )
    yield "from Istio's agent to ours", called(theirs, ours), seen(theirs, ours)
    yield "from ours to Istio's agent", called(ours, theirs), seen(ours, theirs)
    yield (
        "its Envoy has refused nothing",
        lambda: theirs.ask(f"{admin}/stats?filter=update_rejected"),
        lambda text: "cds.update_rejected: 0" in text and all(line.endswith(": 0") for line in text.splitlines()),
    )
    plain = [sys.executable, "-c", _ASK, f"http://{theirs.ip}:{_PORT}/whoami"]
    yield (
        "plaintext to it is refused",
        lambda: (
            subprocess.run(plain, capture_output=True, text=True, timeout=30, check=False)
            .stderr.strip()
            .rpartition("\n")[2]
        ),
        lambda text: "reset" in text or "closed" in text,
    )
    yield (
        "its DNS knows the mesh's names",
        lambda: theirs.ask("http://127.0.0.1:15020/debug/ndsz"),
        lambda text: f"ours.{_SPACE}.svc.cluster.local" in text,
    )


def passed(what: str, answer: Callable[[], str], right: Callable[[str], bool]) -> bool:
    """Asks until it is right, or for too long; and says it."""
    end = time.monotonic() + _READY_SECONDS
    while not right(text := answer()) and time.monotonic() < end:
        threading.Event().wait(0.2)
    good = right(text)
    print(f"{'ok   ' if good else 'WRONG'} {what}" + ("" if good else f": {text[-300:]}"), flush=True)
    return good


async def run(istio: Path, folder: Path, stack: AsyncExitStack) -> bool:
    theirs, ours = found = list(pods(stack.enter_context(ExitStack()), folder))
    server, kubeconfig = api_server("cluster-0", folder)
    stack.callback(server.stop)
    client = await stack.enter_async_context(ApiClient(load_file(kubeconfig)))
    addresses = await fill(client, found)
    plane = control_plane(kubeconfig, "cluster-0", "0.0.0.0", folder / "control-plane.log", "")
    stack.callback(plane.stop)
    plane.until_logged("serving", _READY_SECONDS)
    for pod in found:
        await credentials(client, pod)
        program = [sys.executable, str(Path(samples.__file__).with_name("helloworld.py"))]
        told = {**os.environ, "POD_NAME": pod.name, "PORT": str(_PORT)}
        stack.callback(Child(pod.name, pod.command(*program), told, pod.folder / "workload.log").stop)
    for pod, command, told in agents(istio, theirs, ours):
        stack.callback(
            Child(pod.name, command, {**os.environ, **told}, pod.folder / "agent.log", folder=pod.folder).stop
        )
    good = [passed(*check) for check in checks(theirs, ours, addresses)]
    source = {"principals": [ours.identity.removeprefix("spiffe://")]}
    spec = {
        "selector": {"matchLabels": {"app": theirs.name}},
        "action": "DENY",
        "rules": [{"from": [{"source": source}]}],
    }
    await mesh.create(client, [_object("security.istio.io/v1", "AuthorizationPolicy", "not-ours", spec=spec)])
    url = f"http://{addresses[theirs.name]}:{_PORT}/whoami"
    good.append(passed("a policy holds before its workload", lambda: ours.ask(url), lambda text: "403" in text))
    return all(good)


async def main(istio: Path) -> int:
    with tempfile.TemporaryDirectory(prefix="isthmus-istio-") as folder:
        async with AsyncExitStack() as stack:
            try:
                return 0 if await run(istio, Path(folder), stack) else 1
            except BenchFailed as error:
                sys.stderr.write(f"{error}\n")
                return 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(Path(sys.argv[1]).resolve())))
