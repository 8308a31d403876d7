"""What an agent keeps for the time in which no control plane answers, and who gets it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType

import grpc
import grpc.aio
import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.service.discovery.v3 import discovery_pb2

from isthmus.agent.certificates import Certificate
from isthmus.agent.last_good import LastGood
from isthmus.agent.last_good_server import LastGoodServer
from isthmus.agent.specification import ProxySpec
from isthmus.envoy.dump import resources_in
from isthmus.envoy.resources import CLUSTER, EXTENSION, LISTENER, Resource, ResourceSet
from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.model.views import NameRecord
from isthmus.trust import x509

DELTA = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"


NAMES = (NameRecord(host="web.shop", ips=("10.0.0.1",), registry="Kubernetes", short_name="web", namespace="shop"),)


def spec(**changed: object) -> ProxySpec:
    said = {
        "kind": "sidecar",
        "namespace": "default",
        "name": "web-1",
        "service_account": "alice",
        "ip": "10.0.0.1",
        "node": "n",
        "labels": {"version": "v1"},
        "workload_name": "web",
        "network": "n1",
        "network_view": "",
        "dns_capture": True,
        "token_file": "",
        "root_cert_file": "",
        "net_namespace": "",
        "directory": "",
    }
    return ProxySpec(**(said | changed))  # type: ignore[arg-type]


def certificate_of(authority, identity: str = "spiffe://cluster.local/ns/default/sa/alice") -> Certificate:
    key = x509.new_key()
    now = datetime.now(UTC)
    chain = authority.sign(x509.new_request(key), SpiffeId.parse(identity), now, timedelta(hours=1))
    return Certificate("".join(chain[:-1]), x509.key_pem(key), chain[-1])


def resources(*names: str) -> ResourceSet:
    found = {name: Resource.of(name, cluster_pb2.Cluster(name=name)) for name in names}
    return ResourceSet(MappingProxyType({CLUSTER: MappingProxyType(found)}))


def test_a_certificate_is_for_its_identity_and_for_as_long_as_it_is_valid(tmp_path, authority):
    LastGood(str(tmp_path), spec()).keep_certificate(certificate_of(authority))
    soon_over = datetime.now(UTC) + timedelta(minutes=59, seconds=30)

    assert LastGood(str(tmp_path), spec(name="web-2")).certificate() is not None, "another Pod of the account"
    assert LastGood(str(tmp_path), spec(service_account="bob")).certificate() is None
    assert LastGood(str(tmp_path), spec(namespace="shop")).certificate() is None
    assert LastGood(str(tmp_path), spec()).certificate(soon_over) is None


def test_a_certificate_of_another_identity_is_not_given_away(tmp_path, authority):
    bad = certificate_of(authority, "spiffe://cluster.local/ns/default/sa/bob")
    LastGood(str(tmp_path), spec()).keep_certificate(bad)

    assert LastGood(str(tmp_path), spec()).certificate() is None


def test_peers_authorities_are_kept_and_so_is_that_there_are_none_any_longer(tmp_path, authority):
    peers = {TrustDomain.parse("partner.example"): x509.to_der(authority.root_pem), TrustDomain("gone.example"): []}
    LastGood(str(tmp_path), spec()).keep_peers(peers)

    assert LastGood(str(tmp_path), spec(name="web-2")).peers() == peers
    assert LastGood(str(tmp_path), spec(service_account="bob")).peers() is None
    LastGood(str(tmp_path), spec()).keep_peers({})
    assert LastGood(str(tmp_path), spec()).peers() == {}


def test_files_are_for_their_owner_alone(tmp_path, authority):
    folder = tmp_path / "kept"
    last_good = LastGood(str(folder), spec())
    last_good.keep_certificate(certificate_of(authority))
    last_good.keep_names(NAMES)
    last_good.keep_configuration(resources("a"))
    last_good.keep_peers({})

    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert len(list(folder.iterdir())) == 4


def test_configuration_is_for_the_workload(tmp_path):
    LastGood(str(tmp_path), spec()).keep_configuration(resources("a", "b"))

    assert LastGood(str(tmp_path), spec(name="web-2", ip="10.0.0.2")).configuration() == resources("a", "b")
    assert LastGood(str(tmp_path), spec(workload_name="other")).configuration() is None
    assert LastGood(str(tmp_path), spec(labels={"version": "v2"})).configuration() is None


def test_names_are_kept_for_the_workload(tmp_path):
    LastGood(str(tmp_path), spec()).keep_names(NAMES)

    assert LastGood(str(tmp_path), spec(name="web-2")).names() == NAMES
    assert LastGood(str(tmp_path), spec(workload_name="other")).names() is None


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"names": 3}', b'{"names": "=not base64"}', b'{"names": "//8="}', b"{}"]
)
def test_a_torn_file_is_as_none(tmp_path, content):
    last_good = LastGood(str(tmp_path), spec())
    last_good.keep_names(NAMES)
    [path] = tmp_path.iterdir()
    path.write_bytes(content)

    assert last_good.names() is None


@pytest.mark.parametrize("peers", ['{"partner.example": ["//8="]}', '{"not a domain": []}', '{"partner.example": "x"}'])
def test_peers_that_cannot_be_read_are_as_none(tmp_path, peers):
    last_good = LastGood(str(tmp_path), spec())
    last_good.keep_peers({})
    [path] = tmp_path.iterdir()
    path.write_text(f'{{"peers": {peers}}}')

    assert last_good.peers() is None


def test_without_a_folder_nothing_is_kept(authority):
    last_good = LastGood("", spec())
    last_good.keep_certificate(certificate_of(authority))

    assert (last_good.certificate(), last_good.names(), last_good.configuration()) == (None, None, None)


def test_a_dump_holds_what_the_envoy_accepted():
    cluster = {"@type": CLUSTER, "name": "outbound|80||web", "type": "EDS"}
    listener = {"@type": LISTENER, "name": "virtualOutbound"}
    dump = {
        "configs": [
            {"static_clusters": [{"cluster": {"@type": CLUSTER, "name": "xds-grpc"}}]},
            {"dynamic_active_clusters": [{"cluster": cluster}], "dynamic_warming_clusters": [{"cluster": {}}]},
            {"dynamic_listeners": [{"active_state": {"listener": listener}}, {"error_state": {}}]},
            {"ecds_filters": [{"ecds_filter": {"@type": EXTENSION, "name": "envoy.filters.http.rbac"}}]},
        ]
    }

    found = resources_in(dump)

    assert {kind: sorted(named) for kind, named in found.by_type.items() if named} == {
        CLUSTER: ["outbound|80||web"],
        EXTENSION: ["envoy.filters.http.rbac"],
        LISTENER: ["virtualOutbound"],
    }


async def asked(path: Path, live: list[bool]) -> list[str] | str:
    """The names of the clusters that an Envoy gets which asks for all; or why it gets none."""
    request = discovery_pb2.DeltaDiscoveryRequest(type_url=CLUSTER)
    async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
        call = channel.stream_stream(
            DELTA,
            request_serializer=discovery_pb2.DeltaDiscoveryRequest.SerializeToString,
            response_deserializer=discovery_pb2.DeltaDiscoveryResponse.FromString,
        )()
        await call.write(request)
        try:
            response = await call.read()
        except grpc.aio.AioRpcError as error:
            return error.code().name
        await call.write(discovery_pb2.DeltaDiscoveryRequest(type_url=CLUSTER, response_nonce=response.nonce))
        live[0] = True
        async with asyncio.timeout(60):
            assert await call.read() is grpc.aio.EOF, "the stream ends when it runs"
        return sorted(resource.name for resource in response.resources)


async def test_an_envoy_that_starts_gets_it_and_is_sent_back_to_the_control_planes_when_it_runs(tmp_path):
    live = [False]

    async def is_live() -> bool:
        return live[0]

    last_good = LastGood(str(tmp_path / "kept"), spec())
    server = LastGoodServer(tmp_path / "s.sock", last_good, is_live)
    await server.start()
    try:
        assert await asked(tmp_path / "s.sock", live) == "UNAVAILABLE", "nothing has been kept"
        last_good.keep_configuration(resources("a", "b"))
        assert await asked(tmp_path / "s.sock", live) == ["a", "b"]
        assert await asked(tmp_path / "s.sock", live) == "UNAVAILABLE", "one that runs has what it needs"
    finally:
        await server.stop()
