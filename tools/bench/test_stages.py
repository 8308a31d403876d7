"""What each stage of the pipeline costs, one by one: `make bench-stages`. The mesh is workload S, or WORKLOAD, with ten times the services,
endpoints or clusters for TENFOLD; the change one endpoint more. A Service that is added is measured in half of workload M, too.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
from datetime import UTC, datetime
from typing import Any

import pytest
from envoy.service.discovery.v3 import discovery_pb2

from bench import workloads
from bench.in_process import Mesh, learn_and_settle, proxies, settle, tables_of
from bench.workloads import WORKLOADS, Workload
from isthmus.api.registry import KINDS, decode
from isthmus.controlplane.tables import Tables
from isthmus.envoy.endpoints import endpoints_of
from isthmus.envoy.resources import CLUSTER, ENDPOINTS, LISTENER, Changes
from isthmus.model.identity import TrustDomain
from isthmus.model.views import Proxy
from isthmus.trust.authority import CertificateAuthority
from isthmus.xds.calls import framed
from isthmus.xds.frames import PREFACE, data_frames, settings
from isthmus.xds.http2 import Connection, Limits
from isthmus.xds.native_tls import ClientCertificate, server_context
from isthmus.xds.session import Session
from isthmus.xds.wire import Encoded

WORKLOAD = WORKLOADS[os.environ.get("WORKLOAD", "S")]
if "TENFOLD" in os.environ:
    WORKLOAD = workloads.tenfold(WORKLOAD, os.environ["TENFOLD"])
NAME = "istiod.istio-system.svc"


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    return Mesh(WORKLOAD)


@pytest.fixture(scope="module")
def kept(mesh: Mesh) -> Tables:
    return tables_of(mesh)


def settled(tables: Tables, proxy: Proxy, encoded: Encoded) -> Session:
    """A stream of which the client has everything."""
    session, resources = Session(delta=True, encoded=encoded), tables.resources(proxy)
    assert resources is not None, "settled"
    session.publish(resources)
    for kind in (CLUSTER, LISTENER, ENDPOINTS):
        names = resources.of_type(ENDPOINTS) if kind == ENDPOINTS else ()
        session.receive(discovery_pb2.DeltaDiscoveryRequest(type_url=kind, resource_names_subscribe=names))
        acknowledge(session, kind)
    return session


def acknowledge(session: Session, kind: str) -> None:
    sent = next(found.sent_nonce for found in session.status if found.type_url == kind)
    session.receive(discovery_pb2.DeltaDiscoveryRequest(type_url=kind, response_nonce=sent))


def test_decode_an_endpoint_slice(benchmark: Any, mesh: Mesh) -> None:
    benchmark(decode, KINDS["EndpointSlice"], mesh.slices[1])


def test_ingest_one_changed_slice(benchmark: Any, mesh: Mesh) -> None:
    mesh.snapshot()
    benchmark.pedantic(mesh.snapshot, setup=mesh.endpoint_comes_or_goes, rounds=20)


def test_encode_the_endpoints_of_a_service(benchmark: Any, mesh: Mesh) -> None:
    from isthmus.discovery.view import outbound_view

    view = outbound_view(next(proxies(WORKLOAD)).scope, mesh.snapshot())
    upstream = next(found for found in view.upstreams if found.groups)
    benchmark(endpoints_of, upstream.groups, upstream.name)


def test_settle_one_changed_endpoint_for_all_proxies(benchmark: Any, mesh: Mesh, kept: Tables) -> None:
    """From the changed slice to the names that each proxy is to be told."""

    changed = benchmark.pedantic(learn_and_settle, (mesh, kept), setup=mesh.endpoint_comes_or_goes, rounds=40)
    assert len(changed) == len(kept.proxies)


@pytest.mark.parametrize("workload", [WORKLOAD, workloads.half(WORKLOADS["M"])], ids=lambda workload: workload.name)
def test_settle_an_added_service_for_all_proxies(benchmark: Any, workload: Workload) -> None:
    """From the object to the names that each proxy is to be told; every other time it is a Service that goes."""
    mesh = Mesh(workload)
    kept = tables_of(mesh)

    changed = benchmark.pedantic(learn_and_settle, (mesh, kept), setup=mesh.service_comes_or_goes, rounds=10)
    assert len(changed) == len(kept.proxies)


def test_splice_a_response_of_all_clusters(benchmark: Any, kept: Tables) -> None:
    resources = kept.resources(kept.proxies[0])
    assert resources is not None, "settled"
    found = list(resources.of_type(CLUSTER).values())
    benchmark(lambda: Encoded().delta(CLUSTER, [found], []))


def test_tell_one_stream_of_a_changed_endpoint(benchmark: Any, mesh: Mesh, kept: Tables) -> None:
    """Session and frames, for one proxy of many: the body is there already."""
    proxy, encoded = kept.proxies[0], Encoded()
    session = settled(kept, proxy, encoded)

    def change() -> tuple[Any, dict[str, Any]]:
        acknowledge(session, ENDPOINTS)
        mesh.endpoint_comes_or_goes()
        kept.learn(mesh.snapshot())
        return (settle(kept)[proxy],), {}

    def tell(changes: Changes) -> bytes:
        resources = kept.resources(proxy)
        assert resources is not None, "settled"
        (response,) = session.publish(resources, changes)
        return b"".join(data_frames(1, piece) for piece in framed(response))

    assert benchmark.pedantic(tell, setup=change, rounds=50)


def test_take_an_acknowledgement(benchmark: Any) -> None:
    """From the bytes of the connection to the parsed request."""
    request = discovery_pb2.DeltaDiscoveryRequest(type_url=ENDPOINTS, response_nonce="123")
    sent = b"".join(data_frames(1, piece) for piece in framed((request.SerializeToString(),)))
    connection = Connection(Limits())
    connection.receive(PREFACE + settings({}) + _opened(), 0.0)

    def take() -> object:
        (received,) = connection.receive(sent, 0.0)
        connection.consumed(1, len(received.data))  # type: ignore[union-attr]
        connection.take()
        return discovery_pb2.DeltaDiscoveryRequest.FromString(received.data[5:])  # type: ignore[union-attr]

    assert benchmark(take) == request


def _opened() -> bytes:
    import hpack

    from isthmus.xds.frames import END_HEADERS, Kind, frame

    headers = [(":method", "POST"), (":scheme", "https"), (":path", "/ads")]
    return frame(Kind.HEADERS, END_HEADERS, 1, hpack.Encoder().encode(headers))


def test_send_two_kilobytes_with_tls(benchmark: Any) -> None:
    authority = CertificateAuthority.self_signed(TrustDomain("cluster.local"), datetime.now(UTC))
    shown = authority.serving_certificate([NAME], datetime.now(UTC))
    ours = server_context(
        chain_pem=shown.chain_pem, key_pem=shown.key_pem, roots_pem="", client=ClientCertificate.NOT_ASKED_FOR
    )
    theirs = ssl.create_default_context(cadata=authority.root_pem)
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    server = ours.wrap_socket(left, server_side=True, do_handshake_on_connect=False)
    client = theirs.wrap_socket(right, server_hostname=NAME, do_handshake_on_connect=False)
    waiting = [client, server]
    while waiting:
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                select.select([side], [], [], 1)
    data = bytes(2000)

    def send() -> None:
        server.send(data)
        client.recv(4096)

    benchmark(send)
    server.close()
    client.close()
