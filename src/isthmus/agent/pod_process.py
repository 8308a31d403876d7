"""The agent process of one Pod: the agent's parts for one proxy, and the Envoy itself, until SIGTERM or until Envoy ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

# Before gRPC is imported: its fork handlers have lost children's output (measured), and the one child here is started by exec.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import aiohttp
import structlog
import uvloop

from isthmus.agent.app_probes import APP_PROBES_PORT, AppProbes
from isthmus.agent.certificates import ControlPlanes
from isthmus.agent.envoy_admin import EnvoyUnavailable
from isthmus.agent.envoy_binary import envoy_path
from isthmus.agent.merged_metrics import MergedMetrics
from isthmus.agent.pod import BadPod, PodAgent, PodPaths, PodTexts, pod_agent
from isthmus.agent.proxy import Proxy
from isthmus.envoy.common import everywhere
from isthmus.kubernetes.sites import serving

_STOP_SECONDS = 5.0
_READY_URL = "http://127.0.0.1:15021/healthz/ready"
_ASK_SECONDS = 0.2

log = structlog.get_logger()


def main(role: str, paths: PodPaths, environment: Mapping[str, str] | None = None) -> int:
    """Envoy's exit code, 0 after SIGTERM, 1 for a Pod that no proxy can be made of."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    told = os.environ if environment is None else environment
    try:
        agent = pod_agent(role, told, paths, _texts(paths))
        paths.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        envoy = told.get("ISTHMUS_ENVOY") or envoy_path()
    except (BadPod, OSError) as error:
        sys.stderr.write(f"isthmus agent: {error}\n")
        return 1
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run(agent, envoy))
    except* Exception as errors:
        # A part of the agent has failed: the kubelet starts the container anew.
        log.error("the agent has failed", error=str(errors.exceptions[0]), exc_info=errors)
    return 1


def _texts(paths: PodPaths) -> PodTexts:
    """A Pod without labels has no such file's content; one without the file was not told its labels."""
    labels = paths.labels.read_text() if paths.labels.exists() else ""
    return PodTexts(labels=labels, resolv_conf=paths.resolv_conf.read_text() if paths.resolv_conf.exists() else "")


async def _run(agent: PodAgent, envoy: str) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    proxy = Proxy(
        agent.proxy, agent.settings, ControlPlanes(agent.settings.control_planes, agent.settings.control_plane_name)
    )
    probes = AppProbes(agent.probers, agent.proxy.ip, proxy.missing)
    metrics = MergedMetrics(agent.proxy.ip, agent.metrics, proxy.certificate_expires)
    application = probes.application(metrics.answer)
    async with serving(application, everywhere(agent.proxy.families), APP_PROBES_PORT), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(proxy.run(), name="proxy")
        stopped = tasks.create_task(stop.wait(), name="stop")
        try:
            return await with_envoy(agent, proxy, envoy, stopped)
        finally:
            running.cancel()
            stopped.cancel()


async def with_envoy(agent: PodAgent, proxy: Proxy, envoy: str, stopped: asyncio.Task[bool]) -> int:
    """Runs Envoy once it may start, until it ends or the agent is to stop. The exit code."""
    async with asyncio.TaskGroup() as tasks:
        ready = tasks.create_task(proxy.ready(), name="ready")
        await asyncio.wait([ready, stopped], return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            ready.cancel()
            return 0
    if agent.proxy.grpc_bootstrap:
        log.info("grpc may start", bootstrap=agent.proxy.grpc_bootstrap)
        await stopped
        return 0
    process = await asyncio.create_subprocess_exec(envoy, *ready.result().arguments)
    log.info("envoy runs", pid=process.pid)
    try:
        async with asyncio.TaskGroup() as tasks:
            ended = tasks.create_task(process.wait(), name="envoy")
            await asyncio.wait([ended, stopped], return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                log.error("envoy has ended", code=ended.result())
                return _unasked(ended.result())
            await _drain(proxy, ended, agent.drain_seconds)
            await _end(process)
            return 0
    finally:
        if process.returncode is None:
            process.kill()


def _unasked(code: int) -> int:
    """An Envoy that ends unasked is never a success; what a signal ended is told as shells tell it."""
    return code if code > 0 else 128 - code if code else 1


async def _drain(proxy: Proxy, ended: asyncio.Task[int], seconds: float) -> None:
    """Peers learn that the proxy is leaving, and finish what they began."""
    with contextlib.suppress(EnvoyUnavailable):
        await proxy.drain()
    await asyncio.wait([ended], timeout=seconds)


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def wait_until_ready(seconds: float) -> int:
    """0 once the proxy of this Pod is ready, 124 if it is not in time."""
    return asyncio.run(_wait_until_ready(seconds))


async def _wait_until_ready(seconds: float) -> int:
    last = "the agent does not answer"
    try:
        async with asyncio.timeout(seconds), aiohttp.ClientSession() as session:
            while True:
                try:
                    async with session.get(_READY_URL) as response:
                        last = (await response.text()).strip()
                        if response.status == 200:
                            return 0
                except (aiohttp.ClientError, OSError) as error:
                    last = f"the agent does not answer: {error}"
                await asyncio.sleep(_ASK_SECONDS)
    except TimeoutError:
        sys.stderr.write(f"isthmus agent wait: not ready after {seconds:g} s: {last}\n")
        return 124


DEFAULT_PATHS = PodPaths(
    token=Path("/var/run/secrets/tokens/istio-token"),
    roots=Path("/var/run/secrets/istio/root-cert.pem"),
    labels=Path("/etc/istio/pod/labels"),
    directory=Path("/etc/istio/proxy"),
    resolv_conf=Path("/etc/resolv.conf"),
)
