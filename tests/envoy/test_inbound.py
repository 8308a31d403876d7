"""The inbound listener: the matrix of protocol and mode, chain by chain."""

from __future__ import annotations

from dataclasses import replace

import pytest
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2

from isthmus.envoy import guards
from isthmus.envoy.inbound import virtual_inbound
from isthmus.envoy.resources import EXTENSION, LISTENER
from isthmus.model.names import Namespace
from isthmus.model.security import Action, AuthorizationPolicy, MutualTlsMode, Rule
from isthmus.model.services import Protocol
from isthmus.model.views import InboundView

ANY = "istio-peer-exchange,istio,istio-http/1.0,istio-http/1.1,istio-h2"
TCP = "istio-peer-exchange,istio"
HTTP = "istio-http/1.0,istio-http/1.1,istio-h2"
PLAIN = "http/1.0,http/1.1,h2c"

MATRIX = {
    ("HTTP", "PERMISSIVE"): [f"tls[{ANY}] -> mTLS http", "raw_buffer -> http"],
    ("HTTP", "STRICT"): [f"tls[{ANY}] -> mTLS http"],
    ("HTTP", "DISABLE"): ["raw_buffer -> http"],
    # A gRPC application without a proxy offers h2 alone.
    ("GRPC", "PERMISSIVE"): ["tls -> mTLS http", "raw_buffer -> http"],
    ("GRPC", "STRICT"): ["tls -> mTLS http"],
    ("TCP", "PERMISSIVE"): [f"tls[{ANY}] -> mTLS tcp", "raw_buffer -> tcp", "tls -> tcp"],
    ("TCP", "STRICT"): [f"tls[{ANY}] -> mTLS tcp"],
    ("TCP", "DISABLE"): ["raw_buffer -> tcp", "tls -> tcp"],
    ("HTTPS", "PERMISSIVE"): [f"tls[{ANY}] -> mTLS tcp", "raw_buffer -> tcp", "tls -> tcp"],
    ("AUTO", "PERMISSIVE"): [
        f"tls[{HTTP}] -> mTLS http",
        f"tls[{TCP}] -> mTLS tcp",
        f"raw_buffer[{PLAIN}] -> http",
        "raw_buffer -> tcp",
        "tls -> tcp",
    ],
    ("AUTO", "STRICT"): [f"tls[{HTTP}] -> mTLS http", f"tls[{TCP}] -> mTLS tcp"],
    ("AUTO", "DISABLE"): [f"raw_buffer[{PLAIN}] -> http", "raw_buffer -> tcp", "tls -> tcp"],
}


def listener(*ports, mode=MutualTlsMode.PERMISSIVE):
    return listener_pb2.Listener.FromString(
        virtual_inbound(InboundView(ports=tuple(replace(p, tls=mode) for p in ports), tls=mode)).body
    )


def lines(found, port: int) -> list[str]:
    """`transport[offered] -> [mTLS ]http|tcp` for each chain of a destination port; 0 is every other port."""
    lines = []
    for chain in found.filter_chains:
        match = chain.filter_chain_match
        if match.destination_port.value != port:
            continue
        offered = f"[{','.join(match.application_protocols)}]" if match.application_protocols else ""
        serves = "http" if manager(chain) else "tcp"
        mtls = "mTLS " if chain.HasField("transport_socket") else ""
        lines.append(f"{match.transport_protocol}{offered} -> {mtls}{serves}")
    return lines


def manager(chain):
    last = chain.filters[-1].typed_config
    if "HttpConnectionManager" not in last.type_url:
        return None
    return http_connection_manager_pb2.HttpConnectionManager.FromString(last.value)


def inspectors(found) -> list[str]:
    return [each.name.rpartition(".")[2] for each in found.listener_filters]


@pytest.mark.parametrize(("protocol", "mode"), MATRIX)
def test_what_a_port_accepts(mesh, protocol, mode):
    found = listener(mesh.inbound_port(8080, Protocol[protocol]), mode=MutualTlsMode[mode])

    assert lines(found, 8080) == MATRIX[protocol, mode]


@pytest.mark.parametrize("mode", MutualTlsMode)
def test_undeclared_ports_accept_what_an_undeclared_protocol_does(mode):
    assert lines(listener(mode=mode), 0) == MATRIX["AUTO", mode.name]


@pytest.mark.parametrize(
    ("mode", "seen"),
    [
        (MutualTlsMode.PERMISSIVE, ["original_dst", "tls_inspector", "http_inspector"]),
        (MutualTlsMode.STRICT, ["original_dst", "tls_inspector"]),
        (MutualTlsMode.DISABLE, ["original_dst", "http_inspector"]),
    ],
)
def test_only_what_decides_is_inspected(mode, seen):
    assert inspectors(listener(mode=mode)) == seen


def test_declared_ports_do_not_wait_for_the_http_inspector(mesh):
    found = listener(
        mesh.inbound_port(5432, Protocol.TCP), mesh.inbound_port(8080), mesh.inbound_port(9000, Protocol.AUTO)
    )

    rules = found.listener_filters[-1].filter_disabled.or_match.rules
    ranges = [(rule.destination_port_range.start, rule.destination_port_range.end) for rule in rules]
    assert ranges == [(5432, 5433), (8080, 8081)]


def test_capture_s_own_port_leads_nowhere():
    first = listener().filter_chains[0]

    assert (first.name, first.filter_chain_match.destination_port.value) == ("virtualInbound-blackhole", 15006)


def test_there_is_no_chain_of_last_resort(mesh):
    """With one, plaintext that STRICT refuses would find it."""
    assert not listener(mesh.inbound_port(8080), mode=MutualTlsMode.STRICT).HasField("default_filter_chain")


def test_a_proven_identity_is_told_and_a_claimed_one_removed(mesh):
    found = listener(mesh.inbound_port(8080))

    mtls, plain = (
        manager(chain) for chain in found.filter_chains if chain.filter_chain_match.destination_port.value == 8080
    )
    kinds = http_connection_manager_pb2.HttpConnectionManager
    assert (mtls.forward_client_cert_details, mtls.set_current_client_cert_details.uri) == (kinds.SANITIZE_SET, True)
    assert plain.forward_client_cert_details == kinds.SANITIZE
    assert mtls.server_name == "istio-envoy"


def test_whoever_ends_mutual_tls_looks_first_at_how_many_identities_a_caller_shows(mesh):
    found = listener(
        *(mesh.inbound_port(8000 + n, each) for n, each in enumerate(Protocol) if each is not Protocol.UDP)
    )

    first = {chain.HasField("transport_socket"): set() for chain in found.filter_chains}
    for chain in found.filter_chains:
        first[chain.HasField("transport_socket")].add(chain.filters[0].name == guards.ONE_IDENTITY)
    assert first == {True: {True}, False: {False}}


def test_the_server_selects_no_name_of_the_mesh(mesh):
    """Envoy's codec would take a connection with ALPN `istio-h2` for HTTP/1."""
    found = listener(mesh.inbound_port(8080), mesh.inbound_port(9000, Protocol.AUTO))

    contexts = [
        tls_pb2.DownstreamTlsContext.FromString(chain.transport_socket.typed_config.value)
        for chain in found.filter_chains
        if chain.HasField("transport_socket")
    ]
    assert {tuple(each.common_tls_context.alpn_protocols) for each in contexts} == {("h2", "http/1.1"), ()}
    assert all(each.require_client_certificate.value for each in contexts)
    secrets = {each.common_tls_context.tls_certificate_sds_secret_configs[0].name for each in contexts}
    assert secrets == {"default"}


@pytest.mark.parametrize("mode", MutualTlsMode)
def test_envoy_accepts_every_protocol_in_every_mode(mesh, accepted_by_envoy, mode):
    ports = [mesh.inbound_port(8000 + n, each, 80, mode) for n, each in enumerate(Protocol) if each is not Protocol.UDP]

    accepted_by_envoy(mesh.compiled(mesh.view(mesh.sample_mesh(), *ports, mode=mode)))


def test_replicas_share_one_encoding(mesh):
    ports = (mesh.inbound_port(8080), mesh.inbound_port(9000, Protocol.AUTO))
    first, second = (mesh.compiled(mesh.view(mesh.outbound_view(), *ports)) for _ in range(2))

    assert first.of_type(LISTENER)["virtualInbound"] is second.of_type(LISTENER)["virtualInbound"]


def test_a_policy_for_requests_changes_no_listener_of_declared_http_ports(mesh):
    """It is fetched apart, so that it holds for connections that are open already, and none of them is closed for it."""
    denied = AuthorizationPolicy(
        action=Action.DENY, namespace=Namespace("ns"), name="p", selector=(), rules=(Rule(),), dry_run=False
    )
    before = mesh.compiled(mesh.view(mesh.outbound_view(), mesh.inbound_port(8080)))
    view = mesh.view(mesh.outbound_view(), mesh.inbound_port(8080))
    asked = replace(view.inbound.authorization, policies=(denied,))
    after = mesh.compiled(replace(view, inbound=replace(view.inbound, authorization=asked)))

    def chains(resources):
        found = listener_pb2.Listener.FromString(resources.of_type(LISTENER)["virtualInbound"].body)
        return [
            each.SerializeToString()
            for each in found.filter_chains
            if each.filter_chain_match.destination_port.value == 8080
        ]

    changed = {
        name
        for name, each in after.of_type(EXTENSION).items()
        if each.version != before.of_type(EXTENSION)[name].version
    }
    assert chains(before) == chains(after)
    assert changed == {"envoy.filters.http.rbac"}


def test_another_cut_replaces_the_chains_of_the_mesh_and_no_other(mesh):
    view = InboundView(ports=(mesh.inbound_port(80), mesh.inbound_port(9000, Protocol.TCP)))

    def chains(cut: str) -> list[bytes]:
        found = listener_pb2.Listener.FromString(virtual_inbound(replace(view, cut=cut)).body)
        return [chain.SerializeToString(deterministic=True) for chain in found.filter_chains]

    before, after = chains(""), chains("2026-03-01T12:00:00+00:00")

    replaced = [old != new for old, new in zip(before, after, strict=True)]
    ends_tls = [b"DownstreamTlsContext" in chain for chain in before]
    assert replaced == ends_tls
    assert any(replaced)
    assert chains("2026-03-01T12:00:00+00:00") == after
