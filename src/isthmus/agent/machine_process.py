"""The agent process of a machine outside every cluster: capture, the agent's parts for one proxy, the application's health, and the Envoy."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from pathlib import Path

# Before gRPC is imported: its fork handlers have lost children's output (measured), and the children here are started by exec.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import structlog
import uvloop

from isthmus.agent import capture
from isthmus.agent.app_probes import APP_PROBES_PORT, AppProbes
from isthmus.agent.capture import ByMark, CaptureFailed
from isthmus.agent.certificates import ControlPlanes
from isthmus.agent.envoy_binary import envoy_path
from isthmus.agent.machine import KitTexts, MachineAgent, machine_agent
from isthmus.agent.machine_health import MachineHealth
from isthmus.agent.pod import BadPod, PodPaths
from isthmus.agent.pod_process import with_envoy
from isthmus.agent.proxy import Proxy, node_of
from isthmus.envoy.common import everywhere
from isthmus.installation.machine_kit import ENVIRONMENT, MESH, ROOTS, TOKEN
from isthmus.kubernetes.sites import serving

_LEAVING_SECONDS = 1.0
"""How long callers have to hear that the machine leaves, before its proxy begins to close connections."""

log = structlog.get_logger()


def main(kit: Path, state: Path, *, name: str, address: str) -> int:
    """Envoy's exit code, 0 after SIGTERM, 1 for a kit that no proxy can be made of. An empty address is found out, as is the name."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    resolv_conf = Path("/etc/resolv.conf")
    paths = PodPaths(
        token=kit / TOKEN, roots=kit / ROOTS, labels=kit / "labels", directory=state / "proxy", resolv_conf=resolv_conf
    )
    try:
        texts = KitTexts(
            environment=(kit / ENVIRONMENT).read_text(),
            mesh=(kit / MESH).read_text(),
            resolv_conf=resolv_conf.read_text() if resolv_conf.exists() else "",
        )
        agent = machine_agent(
            texts, paths, name=name or own_name(), address=address or own_address(), state=str(state / "last-good")
        )
        paths.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        _capture(agent)
    except (BadPod, OSError, UnicodeDecodeError, CaptureFailed) as error:
        sys.stderr.write(f"isthmus agent: {error}\n")
        return 1
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run(agent, os.environ.get("ISTHMUS_ENVOY") or envoy_path()))
    except* Exception as errors:
        # A part of the agent has failed: whoever looks after services of this machine starts it anew.
        log.error("the agent has failed", error=str(errors.exceptions[0]), exc_info=errors)
    finally:
        # Without its proxy, the machine's connections go where they are sent.
        with contextlib.suppress(CaptureFailed):
            capture.remove(agent.pod.proxy.families)
    return 1


def own_name() -> str:
    """Of the machine, without its domain."""
    return socket.gethostname().partition(".")[0].lower()


def own_address() -> str:
    """The one from which this machine calls others. Raises BadPod."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            # No packet is sent: the kernel only chooses. The address is one of those that are nobody's (RFC 5737).
            asked.connect(("192.0.2.1", 9))
            return str(asked.getsockname()[0])
        except OSError as error:
            raise BadPod(f"this machine's address cannot be found out, name it with --address: {error}") from None


def _capture(agent: MachineAgent) -> None:
    proxy = agent.pod.proxy
    servers = tuple(proxy.name_servers)
    text = capture.rules(ByMark(), agent.capture, dns=proxy.dns_capture, name_servers=servers, families=proxy.families)
    capture.install(text, proxy.families)


async def _run(agent: MachineAgent, envoy: str) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    spec, settings = agent.pod.proxy, agent.pod.settings
    control_planes = ControlPlanes(settings.control_planes, settings.control_plane_name)
    proxy = Proxy(spec, settings, control_planes)
    health = MachineHealth(
        agent.probe,
        spec.ip,
        control_planes,
        node=node_of(spec, settings),
        cluster=settings.cluster_id,
        root_cert_file=spec.root_cert_file,
        credentials=proxy.credentials,
    )
    probes = AppProbes(agent.pod.probers, spec.ip, proxy.missing)
    async with serving(probes.application(), everywhere(spec.families), APP_PROBES_PORT), asyncio.TaskGroup() as tasks:
        work = [tasks.create_task(proxy.run(), name="proxy")]
        if agent.probe:
            work.append(tasks.create_task(health.run(), name="health"))
        stopped = tasks.create_task(_until_left(stop, health, probed=bool(agent.probe)), name="stop")
        try:
            return await with_envoy(agent.pod, proxy, envoy, stopped)
        finally:
            for task in (*work, stopped):
                task.cancel()


async def _until_left(stop: asyncio.Event, health: MachineHealth, *, probed: bool) -> bool:
    """Until the machine is to leave, and callers have been told."""
    await stop.wait()
    if probed:
        health.leave()
        await asyncio.sleep(_LEAVING_SECONDS)
    return True
