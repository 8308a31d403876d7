"""A gRPC application without a proxy: `serve ADDRESS` answers with its caller's identity, `call TARGET N SECONDS` prints N answers."""

from __future__ import annotations

import sys

import grpc
import grpc.experimental

METHOD = "/echo.Echo/WhoAmI"


def serve(address: str) -> None:
    import threading
    from concurrent.futures import ThreadPoolExecutor

    def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
        caller = b",".join(context.auth_context().get("peer_spiffe_id", [b"nobody"]))
        return address.encode() + b" " + caller

    handler = grpc.unary_unary_rpc_method_handler(answer)
    server = grpc.server(ThreadPoolExecutor(4), xds=True)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("echo.Echo", {"WhoAmI": handler})])
    server.add_secure_port(address, grpc.xds_server_credentials(grpc.insecure_server_credentials()))
    server.start()
    threading.Event().wait()


def call(target: str, times: int, seconds: int) -> None:
    credentials = grpc.xds_channel_credentials(grpc.experimental.insecure_channel_credentials())
    with grpc.secure_channel(target, credentials) as channel:
        ask = channel.unary_unary(METHOD)
        for _ in range(times):
            try:
                print(ask(b"", timeout=seconds, wait_for_ready=True).decode(), flush=True)
            except grpc.RpcError as error:
                print(error.code().name, flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        call(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
