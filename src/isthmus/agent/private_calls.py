"""gRPC services on unix sockets that only their owner may open. Apart from other sockets, because gRPC takes long to load."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import grpc
import grpc.aio

from isthmus.agent.sockets import made_privately


async def serve_calls_privately(
    service: str, methods: Mapping[str, grpc.RpcMethodHandler], path: Path
) -> grpc.aio.Server:
    """Serves on a socket of mode 0600; one that is left from before is replaced. Raises OSError."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, dict(methods)),))
    with made_privately(path):
        try:
            server.add_insecure_port(f"unix:{path}")
        except RuntimeError as error:
            raise OSError(f"cannot listen on {path}: {error}") from None
    await server.start()
    return server
