"""The agent process."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

# Before gRPC is imported: its fork handlers have lost children's output (measured), and nothing here forks.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import msgspec
import structlog
import uvloop
from aiohttp import web

from isthmus.agent.server import AgentServer
from isthmus.agent.sockets import serve_privately
from isthmus.agent.specification import AgentSettings


def main(settings_path: str) -> int:
    """Runs until SIGTERM. The exit code is 1 for settings that cannot be used."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        settings = msgspec.json.decode(Path(settings_path).read_bytes(), type=AgentSettings)
    except (OSError, msgspec.MsgspecError) as error:
        sys.stderr.write(f"isthmus agent: {settings_path}: {error}\n")
        return 1
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings))
    return 0


async def _serve(settings: AgentSettings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with asyncio.TaskGroup() as tasks:
        proxies = tasks.create_task(_look_after(settings), name="proxies")
        await stop.wait()
        proxies.cancel()


async def _look_after(settings: AgentSettings) -> None:
    async with asyncio.TaskGroup() as tasks:
        runner = web.AppRunner(AgentServer(settings, tasks).application(), access_log=None)
        await runner.setup()
        await serve_privately(runner, Path(settings.socket))
        try:
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()
