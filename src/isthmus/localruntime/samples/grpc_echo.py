"""grpc-echo: one unary method, `/isthmus.Echo/Echo`, bytes in and bytes out with a prefix, on 7070."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

PREFIX = f"{os.environ.get('SERVICE_VERSION', 'v1')} {os.environ.get('POD_NAME', 'here')} ".encode()


def echo(request: bytes, context: Any) -> bytes:
    del context
    return PREFIX + request


if __name__ == "__main__":
    server = grpc.server(ThreadPoolExecutor(max_workers=4))
    method = grpc.unary_unary_rpc_method_handler(echo)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("isthmus.Echo", {"Echo": method}),))
    server.add_insecure_port("0.0.0.0:7070")
    server.start()
    server.wait_for_termination()
