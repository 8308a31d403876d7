"""A gRPC application without a proxy: `serve ADDRESS` says that it serves and answers who called, `call TARGET N SECONDS` prints N answers.

`serve-plainly` and `call-plainly AUTHORITY` are those of applications that know nothing of the mesh: whoever calls them is in a header that their
sidecar sets.
"""

from __future__ import annotations

import json
import sys

import grpc
import grpc.experimental

METHOD = "/echo.Echo/WhoAmI"

PATIENT = {
    "maxAttempts": 5, "initialBackoff": "0.5s", "maxBackoff": "8s", "backoffMultiplier": 3, "retryableStatusCodes": ["UNAVAILABLE"],
}  # fmt: skip
"""A sidecar says UNAVAILABLE for a server, or a gateway, that is only just starting."""


def serve(address: str, *, plainly: bool) -> None:
    import threading
    from concurrent.futures import ThreadPoolExecutor

    def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
        shown = dict(context.invocation_metadata()).get("x-forwarded-client-cert", "nobody")
        callers = [shown.encode()] if plainly else context.auth_context().get("peer_spiffe_id", [b"nobody"])
        return address.encode() + b" " + b",".join(callers)

    handler = grpc.unary_unary_rpc_method_handler(answer)
    server = grpc.server(ThreadPoolExecutor(4), xds=not plainly)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("echo.Echo", {"WhoAmI": handler})])
    if plainly:
        server.add_insecure_port(address)
    else:
        server.add_secure_port(address, grpc.xds_server_credentials(grpc.insecure_server_credentials()))
    server.start()
    print("serving", flush=True)
    threading.Event().wait()


def call(channel: grpc.Channel, times: int, seconds: int) -> None:
    with channel:
        ask = channel.unary_unary(METHOD)
        for _ in range(times):
            try:
                print(ask(b"", timeout=seconds, wait_for_ready=True).decode(), flush=True)
            except grpc.RpcError as error:
                print(error.code().name, flush=True)


def by_xds(target: str) -> grpc.Channel:
    credentials = grpc.xds_channel_credentials(grpc.experimental.insecure_channel_credentials())
    return grpc.secure_channel(target, credentials)


def plainly(authority: str, target: str) -> grpc.Channel:
    config = {"methodConfig": [{"name": [{}], "retryPolicy": PATIENT}]}
    options = [("grpc.default_authority", authority), ("grpc.service_config", json.dumps(config))]
    return grpc.insecure_channel(target, options=options)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve" | "serve-plainly" as how, address]:
            serve(address, plainly=how == "serve-plainly")
        case ["call", target, times, seconds]:
            call(by_xds(target), int(times), int(seconds))
        case ["call-plainly", authority, target, times, seconds]:
            call(plainly(authority, target), int(times), int(seconds))
