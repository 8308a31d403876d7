"""Unix sockets that only their owner may open."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import grpc
import grpc.aio
from aiohttp import web


async def serve_privately(runner: web.AppRunner, path: Path) -> None:
    """Serves on a socket of mode 0600; one that is left from before is replaced. Raises OSError."""
    with _made_privately(path):
        await web.UnixSite(runner, str(path)).start()


async def serve_calls_privately(
    service: str, methods: Mapping[str, grpc.RpcMethodHandler], path: Path
) -> grpc.aio.Server:
    """The same for a gRPC service. Raises OSError."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, dict(methods)),))
    with _made_privately(path):
        try:
            server.add_insecure_port(f"unix:{path}")
        except RuntimeError as error:
            raise OSError(f"cannot listen on {path}: {error}") from None
    await server.start()
    return server


@contextmanager
def _made_privately(path: Path) -> Iterator[None]:
    path.unlink(missing_ok=True)
    mask = os.umask(0o177)
    try:
        yield
    finally:
        os.umask(mask)
