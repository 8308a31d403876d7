"""Certificates in files beside a proxy, and a real Envoy that reads them again."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
from envoy.service.discovery.v3 import discovery_pb2
from free_ports import free_port
from google.protobuf import any_pb2
from running_envoy import running_envoy

from isthmus.envoy import requested_secrets
from isthmus.envoy.proto_json import to_json
from isthmus.envoy.resources import SECRET, Resource
from isthmus.envoy.static import static_bootstrap
from isthmus.envoy.tls import gateway_socket
from isthmus.model.gateways import ServerTls, TlsMode
from isthmus.model.identity import TrustDomain
from isthmus.trust import x509

SECONDS = 60.0


def write(folder: Path) -> bytes:
    """Another certificate in the place of the one before, as kubelets do it: by renaming. What callers are to be shown."""
    root = x509.new_root(TrustDomain.parse("cluster.local"), datetime.now(UTC), timedelta(days=1))
    pem = x509.certificate_pem(root.certificate)
    for name, text in (("key.pem", x509.key_pem(root.key)), ("chain.pem", pem)):
        (folder / f"{name}.new").write_text(text)
        (folder / f"{name}.new").rename(folder / name)
    return ssl.PEM_cert_to_DER_cert(pem)


@contextmanager
def told(secret: Resource, path: Path) -> Iterator[None]:
    """A control plane that has this one secret."""

    def stream(requests: Iterator[Any], _: Any) -> Iterator[Any]:
        next(requests)
        body = any_pb2.Any(type_url=SECRET, value=secret.body)
        yield discovery_pb2.DiscoveryResponse(version_info="1", type_url=SECRET, nonce="1", resources=[body])
        yield from (each for each in requests if not each)

    handler = grpc.stream_stream_rpc_method_handler(
        stream,
        request_deserializer=discovery_pb2.DiscoveryRequest.FromString,
        response_serializer=discovery_pb2.DiscoveryResponse.SerializeToString,
    )
    service = "envoy.service.secret.v3.SecretDiscoveryService"
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {"StreamSecrets": handler})])
    server.add_insecure_port(f"unix:{path}")
    server.start()
    try:
        yield
    finally:
        server.stop(None)


def configuration(said: ServerTls, path: Path, port: int) -> dict[str, Any]:
    """A listener that echoes what it is sent by TLS; ADS is stood in for by the source of secrets that a static configuration has."""
    echo = {"@type": "type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo"}
    chain = {
        "filters": [{"name": "echo", "typedConfig": echo}],
        "transportSocket": to_json(gateway_socket(said, http=False)),
    }
    address = {"socketAddress": {"address": "127.0.0.1", "portValue": port}}
    listener = {"name": "shown", "address": address, "filterChains": [chain]}
    document = {"endpoints": [], "routes": [], "clusters": [], "listeners": [listener]}
    source = {
        "apiType": "GRPC",
        "transportApiVersion": "V3",
        "grpcServices": [{"envoyGrpc": {"clusterName": "sds-grpc"}}],
    }
    text = json.dumps(static_bootstrap(document)).replace("/nowhere", str(path))
    config: dict[str, Any] = json.loads(text.replace('"ads": {}', f'"apiConfigSource": {json.dumps(source)}'))
    return config


def shown(port: int) -> bytes | None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as connection,
        context.wrap_socket(connection) as wrapped,
    ):
        return wrapped.getpeercert(binary_form=True)


def test_a_certificate_that_is_replaced_in_its_file_is_shown_without_being_told_anew(tmp_path_factory):
    folder = tmp_path_factory.mktemp("f")
    said = ServerTls(mode=TlsMode.SIMPLE, certificate=str(folder / "chain.pem"), private_key=str(folder / "key.pem"))
    [secret] = requested_secrets.of([said])
    first = write(folder)
    port = free_port()

    with told(secret, folder / "s"), running_envoy(configuration(said, folder / "s", port), folder):
        assert shown(port) == first
        second, until = write(folder), time.monotonic() + SECONDS
        while (now := shown(port)) == first and time.monotonic() < until:
            pass

    assert now == second
