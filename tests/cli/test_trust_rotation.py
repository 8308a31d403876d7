"""Changing the root of two real API servers' clusters. Their control planes are the real parts that follow authorities and answer questions; their
proxies do what the test says.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from click import UsageError
from click.testing import CliRunner, Result
from cryptography import x509 as raw
from envoy.service.discovery.v3 import discovery_pb2
from revocation_lists import revoking

from isthmus.cli import trust_clusters
from isthmus.cli.app import isthmus
from isthmus.cli.errors import BAD_INPUT, BAD_USAGE, TIMED_OUT, Failed
from isthmus.controlplane import own_trust as module
from isthmus.controlplane.authority import AuthorityInUse, AuthoritySecrets, load_authority, subject_of_authority
from isthmus.controlplane.own_trust import OwnTrustDuty
from isthmus.controlplane.shown import Shown
from isthmus.controlplane.world import World
from isthmus.envoy.own_trust import own_trust
from isthmus.envoy.resources import OWN_TRUST, ResourceSet
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.kubeconfig import ContextEntry, load_file, render
from isthmus.model.identity import TrustDomain
from isthmus.model.names import ClusterId, MeshId, Namespace
from isthmus.model.snapshot import MeshSettings
from isthmus.trust import x509
from isthmus.trust.rotation import RootState
from isthmus.xds.directory import CallFacts, Streams
from isthmus.xds.node import NodeClaims
from isthmus.xds.session import Session

DOMAIN, SYSTEM = TrustDomain.parse("cluster.local"), Namespace("istio-system")
PATH = "/api/v1/namespaces/istio-system"
NOW = datetime.now(UTC)
ROOTS: dict[str, x509.Issuer] = {}
"""What `kubeconfig` has made last."""


class ControlPlane(threading.Thread):
    """Of one cluster, with one proxy, whose agent acknowledges whatever it is told unless it is `stuck`."""

    def __init__(self, cluster: str, kubeconfig: Path) -> None:
        super().__init__(name=f"control plane of {cluster}", daemon=True)
        self.stuck = ""
        self._cluster, self._kubeconfig = ClusterId(cluster), kubeconfig
        self._loop = asyncio.new_event_loop()
        self._ending = asyncio.Event()
        self.signs: Future[AuthorityInUse] = Future()

    def run(self) -> None:
        self._loop.run_until_complete(self._serve())

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._ending.set)
        self.join()

    async def _serve(self) -> None:
        async with ApiClient(load_file(self._kubeconfig)) as client:
            first = await load_authority(client, SYSTEM, DOMAIN)
            use = AuthorityInUse(first, subject_of_authority(self._cluster, SYSTEM, ""), lambda _: None)
            shown, streams = Shown(["x"], first, lambda: datetime.now(UTC)), Streams()
            use.changed.append(shown.renew)
            world = World(MeshSettings(mesh=MeshId("m"), trust_domain=DOMAIN, root_namespace=SYSTEM), self._cluster)
            duty = OwnTrustDuty(
                client, world, use, shown, streams, name="istiod-1", cluster=self._cluster, namespace=SYSTEM
            )
            self.signs.set_result(use)
            async with asyncio.TaskGroup() as tasks:
                work = [
                    tasks.create_task(AuthoritySecrets(client, SYSTEM, use).run(), name="authority"),
                    tasks.create_task(duty.run(), name="duty"),
                    tasks.create_task(self._proxy(world, streams), name="proxy"),
                ]
                await self._ending.wait()
                for task in work:
                    task.cancel()

    async def _proxy(self, world: World, streams: Streams) -> None:
        session = Session(delta=True)
        claims = NodeClaims(
            id=f"sidecar~10.0.0.1~web.{self._cluster}~x",
            metadata={"CLUSTER_ID": self._cluster},
            locality=("", "", ""),
            user_agent="",
        )
        streams.add(claims, CallFacts(metadata={}, peer_certificate="", peer=""), session)
        session.receive(discovery_pb2.DeltaDiscoveryRequest(type_url=OWN_TRUST))
        while True:
            await world.changed.wait()
            world.changed.clear()
            resources = {resource.name: resource for _, resource in own_trust(world.settings.own_trust)}
            if session.publish(ResourceSet({OWN_TRUST: resources})):
                nonce = session.status[0].sent_nonce
                answer = discovery_pb2.DeltaDiscoveryRequest(type_url=OWN_TRUST, response_nonce=nonce)
                if self.stuck:
                    answer.error_detail.message = self.stuck
                session.receive(answer)


@pytest.fixture
def kubeconfig(api_servers: dict[str, Any], request_to: Any, tmp_path: Path) -> Path:
    """East and west, each with an intermediate under one root and the Pod of a control plane."""
    root = ROOTS["last"] = x509.new_root(DOMAIN, NOW, timedelta(days=10))
    for name in api_servers:
        code, answer = request_to(name, "POST", f"{PATH}/secrets", plugged_in(root, name))
        assert code == 201, answer
        pod = {
            "metadata": {"name": "istiod-1", "labels": {"app": "istiod"}},
            "spec": {"containers": [{"name": "d", "image": "d"}]},
        }
        code, answer = request_to(name, "POST", f"{PATH}/pods", pod)
        assert code in (201, 409), answer
        for config_map in ("isthmus-trust", "isthmus-trust-reports"):
            request_to(name, "DELETE", f"{PATH}/configmaps/{config_map}")
    path = tmp_path / "kubeconfig"
    path.write_text(render([entry(name, server) for name, server in api_servers.items()]))
    return path


def entry(name: str, server: Any) -> ContextEntry:
    return ContextEntry(name=name, server=server.url, ca_pem=server.ca_pem, token=server.admin_token)


def plugged_in(root: x509.Issuer, cluster: str) -> dict[str, Any]:
    issuer = x509.new_intermediate(root, cluster, NOW, timedelta(days=5))
    files = {
        "ca-cert.pem": x509.certificate_pem(issuer.certificate),
        "ca-key.pem": x509.key_pem(issuer.key),
        "root-cert.pem": x509.certificate_pem(root.certificate),
    }
    data = {name: base64.b64encode(text.encode()).decode() for name, text in files.items()}
    return {"metadata": {"name": "cacerts"}, "data": data}


@pytest.fixture
def control_planes(
    kubeconfig: Path, api_servers: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, ControlPlane]]:
    monkeypatch.setattr(module, "COMING_BACK_SECONDS", 0.0)
    # What a command prints is its own, not what control planes log meanwhile.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    found = {}
    for name, server in api_servers.items():
        own = tmp_path / name
        own.write_text(render([entry(name, server)]))
        found[name] = ControlPlane(name, own)
        found[name].start()
        found[name].signs.result(10)
    yield found
    for each in found.values():
        each.end()
    structlog.reset_defaults()


def trust(kubeconfig: Path, *arguments: str, code: int = 0) -> Result:
    done = CliRunner().invoke(isthmus, ["trust", *arguments, "--kubeconfig", str(kubeconfig)], standalone_mode=False)
    match done.exception:
        case Failed():
            got = done.exception.code
        case UsageError():
            got = BAD_USAGE
        case _:
            got = done.exit_code
    assert got == code, (done.output, done.exception)
    return done


def states(kubeconfig: Path) -> dict[str, str]:
    found = json.loads(trust(kubeconfig, "status", "-o", "json").stdout)
    return {root["fingerprint"]: root["state"] for root in found["roots"]}


def active(control_planes: dict[str, ControlPlane]) -> set[str]:
    return {x509.fingerprint(each.signs.result().current.root) for each in control_planes.values()}


def test_a_root_lives_from_prepared_to_revoked_and_each_step_may_be_repeated(kubeconfig, control_planes, request_to):
    [old] = states(kubeconfig)

    trust(kubeconfig, "prepare")
    trust(kubeconfig, "prepare")
    [new] = set(states(kubeconfig)) - {old}
    assert states(kubeconfig) == {old: "active", new: "prepared"}
    assert active(control_planes) == {old}

    trust(kubeconfig, "activate")
    trust(kubeconfig, "activate")
    assert states(kubeconfig) == {new: "active", old: "retiring"}
    assert active(control_planes) == {new}

    trust(kubeconfig, "revoke", old[:8], code=BAD_INPUT)
    trust(kubeconfig, "taint")
    trust(kubeconfig, "taint")
    assert states(kubeconfig) == {new: "active", old: "tainted"}

    trust(kubeconfig, "revoke")
    trust(kubeconfig, "revoke", old[:8])
    assert states(kubeconfig) == {new: "active", old: "revoked"}
    for cluster in ("east", "west"):
        names = {each["metadata"]["name"] for each in request_to(cluster, "GET", f"{PATH}/secrets")[1]["items"]}
        assert not names & {"isthmus-prepared-authority", "isthmus-previous-authority"}, "no key is left over"
    intermediates = {each.signs.result().current.issuer.certificate for each in control_planes.values()}
    assert len(intermediates) == 2, "each cluster has its own"


def test_steps_are_taken_back(kubeconfig, control_planes):
    [old] = states(kubeconfig)

    trust(kubeconfig, "prepare")
    trust(kubeconfig, "prepare", "--undo")
    assert states(kubeconfig) == {old: "active"}

    trust(kubeconfig, "prepare")
    [new] = set(states(kubeconfig)) - {old}
    trust(kubeconfig, "activate")
    trust(kubeconfig, "activate", "--undo")
    assert states(kubeconfig) == {old: "active", new: "prepared"}
    assert active(control_planes) == {old}

    trust(kubeconfig, "activate")
    trust(kubeconfig, "taint")
    trust(kubeconfig, "activate", "--undo", code=1)
    trust(kubeconfig, "taint", "--undo")
    assert states(kubeconfig) == {new: "active", old: "retiring"}


def test_a_proxy_that_is_not_ready_is_named_and_nothing_is_done_but_by_force(kubeconfig, control_planes):
    [old] = states(kubeconfig)
    control_planes["west"].stuck = "Envoy refused the certificate"

    waits = trust(kubeconfig, "prepare", "--timeout", "0s", code=TIMED_OUT)
    assert "west: web.west: Envoy refused the certificate" in str(waits.exception)
    waits = trust(kubeconfig, "activate", "--timeout", "0s", code=TIMED_OUT)
    assert "web.east" not in str(waits.exception)
    assert active(control_planes) == {old}

    forced = trust(kubeconfig, "activate", "--force", "--timeout", "0s", code=TIMED_OUT)
    assert "BY FORCE" in forced.stderr
    assert "west: web.west" in forced.stderr
    [new] = active(control_planes)
    assert new != old


def test_a_cluster_without_a_control_plane_that_answers_is_waited_for(kubeconfig, control_planes, request_to):
    pod = {
        "metadata": {"name": "istiod-2", "labels": {"app": "istiod"}},
        "spec": {"containers": [{"name": "d", "image": "d"}]},
    }
    request_to("west", "POST", f"{PATH}/pods", pod)
    try:
        shown = trust(kubeconfig, "status")
    finally:
        request_to("west", "DELETE", f"{PATH}/pods/istiod-2")

    assert "west: istiod-2: the control plane has not answered" in shown.stderr


def test_a_root_is_not_revoked_while_a_remote_secret_uses_it(kubeconfig, control_planes, request_to):
    root = x509.parse_certificates(control_planes["east"].signs.result().current.root_pem)[0]
    [old] = states(kubeconfig)
    trust(kubeconfig, "prepare")
    trust(kubeconfig, "activate")
    trust(kubeconfig, "taint")
    linked = render([ContextEntry(name="west", server="https://x", ca_pem=x509.certificate_pem(root), token="t")])
    secret = {
        "metadata": {"name": "istio-remote-secret-west", "labels": {"istio/multiCluster": "true"}},
        "data": {"west": base64.b64encode(linked.encode()).decode()},
    }
    request_to("east", "POST", f"{PATH}/secrets", secret)

    waits = trust(kubeconfig, "revoke", "--timeout", "0s", code=TIMED_OUT)

    assert "Secret istio-remote-secret-west: its credentials are of this root" in str(waits.exception)
    assert states(kubeconfig)[old] == "tainted"


def test_an_operators_own_root_signs_the_new_authorities_and_its_key_is_stored_nowhere(
    kubeconfig, control_planes, request_to, tmp_path
):
    root = x509.new_root(DOMAIN, NOW, timedelta(days=10), "ours")
    certificate, key = tmp_path / "root.pem", tmp_path / "root-key.pem"
    certificate.write_text(x509.certificate_pem(root.certificate))
    key.write_text(x509.key_pem(root.key))

    short = x509.new_intermediate(x509.Issuer(root.certificate, root.key), "short", NOW, timedelta(days=1))
    (tmp_path / "short.pem").write_text(x509.certificate_pem(short.certificate))
    (tmp_path / "short-key.pem").write_text(x509.key_pem(short.key))

    not_a_root = trust(
        kubeconfig, "prepare", "--root-cert", str(tmp_path / "short.pem"), "--root-key", str(tmp_path / "short-key.pem"),
        code=BAD_INPUT,
    )  # fmt: skip
    assert "is not a root" in str(not_a_root.exception)
    trust(kubeconfig, "prepare", "--root-cert", str(certificate), code=BAD_USAGE)
    trust(kubeconfig, "prepare", "--root-cert", str(certificate), "--root-key", str(certificate), code=BAD_INPUT)
    trust(kubeconfig, "prepare", "--root-cert", str(certificate), "--root-key", str(key))

    assert states(kubeconfig)[x509.fingerprint(root.certificate)] == "prepared"
    secrets = json.dumps(request_to("east", "GET", f"{PATH}/secrets")[1])
    assert base64.b64encode(x509.key_pem(root.key).encode()).decode() not in secrets


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("activate",), "nothing is prepared"),
        (("taint",), "say which root"),
        (("revoke",), "say which root"),
        (("taint", "zz"), "names no root"),
        (("prepare", "--undo"), "no root is prepared"),
        (("activate", "--undo"), "nothing to go back to"),
    ],
)
def test_what_cannot_be_done_now_is_said(kubeconfig, control_planes, arguments, said):
    done = CliRunner().invoke(isthmus, ["trust", *arguments, "--kubeconfig", str(kubeconfig)], standalone_mode=False)

    assert said in done.output + str(done.exception)


def test_what_signs_is_not_tainted(kubeconfig, control_planes):
    [old] = states(kubeconfig)

    refused = trust(kubeconfig, "taint", old[:10], code=BAD_INPUT)

    assert "prepare and activate another one before" in str(refused.exception)


def test_an_evicted_cluster_is_trusted_by_nobody_and_nothing_in_it_is_changed(kubeconfig, control_planes, request_to):
    [old] = states(kubeconfig)
    trust(kubeconfig, "prepare")
    [prepared] = set(states(kubeconfig)) - {old}
    linked = base64.b64encode(b"{}").decode()
    for name, clusters in (("one", ("west",)), ("two", ("west", "north"))):
        metadata = {"name": name, "labels": {"istio/multiCluster": "true"}}
        secret = {"metadata": metadata, "data": dict.fromkeys(clusters, linked)}
        request_to("east", "POST", f"{PATH}/secrets", secret)
    west = request_to("west", "GET", f"{PATH}/secrets/cacerts")[1]

    trust(kubeconfig, "evict", "west", code=BAD_USAGE)
    assert states(kubeconfig)[old] == "active"
    trust(kubeconfig, "evict", "west", "--yes")

    east = control_planes["east"].signs.result().current
    assert len(east.roots) == 1
    assert not east.roots & {old, prepared}, (
        "neither what signed nor what was prepared, of which west has an authority, too"
    )
    assert request_to("east", "GET", f"{PATH}/secrets/one")[0] == 404
    assert set(request_to("east", "GET", f"{PATH}/secrets/two")[1]["data"]) == {"north"}
    assert request_to("east", "GET", f"{PATH}/configmaps/isthmus-trust")[1]["data"]["cut"]
    assert request_to("west", "GET", f"{PATH}/secrets/cacerts")[1] == west


def test_an_eviction_leaves_behind_who_is_not_ready_only_by_force(kubeconfig, control_planes):
    control_planes["east"].stuck = "Envoy refused the certificate"

    waits = trust(kubeconfig, "evict", "west", "--yes", "--timeout", "0s", code=TIMED_OUT)
    assert "web.east: Envoy refused the certificate" in str(waits.exception)
    forced = trust(kubeconfig, "evict", "west", "--yes", "--timeout", "0s", "--force")

    assert "BY FORCE" in forced.stderr
    assert len(control_planes["east"].signs.result().current.roots) == 1


def revoked_in(request_to, cluster: str) -> list[raw.CertificateRevocationList]:
    data = request_to(cluster, "GET", f"{PATH}/secrets/cacerts")[1]["data"]
    return x509.parse_revocations(base64.b64decode(data.get("ca-crl.pem", "")).decode())


def begin_with_lists(control_planes, request_to) -> None:
    """In east alone."""
    authority = control_planes["east"].signs.result().current
    secret = request_to("east", "GET", f"{PATH}/secrets/cacerts")[1]
    lists = revoking(ROOTS["last"]) + revoking(authority.issuer)
    secret["data"]["ca-crl.pem"] = base64.b64encode(lists.encode()).decode()
    assert request_to("east", "PUT", f"{PATH}/secrets/cacerts", secret)[0] == 200


def test_a_root_is_prepared_with_the_lists_that_whoever_looks_at_revocations_wants_of_it(
    kubeconfig, control_planes, request_to
):
    """Of the root and of each cluster's authority under it. Where nobody has lists there are none afterwards."""
    begin_with_lists(control_planes, request_to)
    before = revoked_in(request_to, "east")

    trust(kubeconfig, "prepare")
    assert len(revoked_in(request_to, "east")) == len(before) + 3
    trust(kubeconfig, "prepare", "--undo")
    assert revoked_in(request_to, "east") == before
    for step in ("prepare", "activate", "taint", "revoke"):
        trust(kubeconfig, step)

    east = control_planes["east"].signs.result().current
    left = revoked_in(request_to, "east")
    assert len(left) == 3, "those of the root that is revoked would run out, and nobody would renew them"
    x509.check_revocations(east.crl_pem, [east.issuer.certificate, east.root], datetime.now(UTC))
    assert {each.next_update_utc for each in left} >= {east.root.not_valid_after_utc}
    assert revoked_in(request_to, "west") == []


def test_an_eviction_goes_on_with_lists_of_what_is_left(kubeconfig, control_planes, request_to):
    begin_with_lists(control_planes, request_to)

    trust(kubeconfig, "evict", "west", "--yes")

    east = control_planes["east"].signs.result().current
    assert len(revoked_in(request_to, "east")) == 2
    x509.check_revocations(east.crl_pem, [east.issuer.certificate, east.root], datetime.now(UTC))


def test_an_eviction_that_was_interrupted_goes_on_with_its_own_root(kubeconfig, control_planes, monkeypatch):
    """East signs under the new root already, and the note of it was never written: another root would break what works."""
    note = trust_clusters.Cluster.note
    [old] = states(kubeconfig)

    async def interrupted(self, states, now):
        if RootState.RETIRING in states.values():
            raise Failed("the terminal was closed")
        await note(self, states, now)

    with monkeypatch.context() as patched:
        patched.setattr(trust_clusters.Cluster, "note", interrupted)
        trust(kubeconfig, "evict", "west", "--yes", code=1)
    [begun] = set(states(kubeconfig)) - {old}

    trust(kubeconfig, "evict", "west", "--yes")

    assert set(control_planes["east"].signs.result().current.roots) == {begun}


def test_a_name_that_nobody_has_evicts_nobody(kubeconfig, control_planes):
    before = states(kubeconfig)

    refused = trust(kubeconfig, "evict", "wset", "--yes", code=BAD_INPUT)

    assert "no context and no remote secret is named wset" in str(refused.exception)
    assert states(kubeconfig) == before


def test_going_back_can_be_repeated_wherever_it_ended(kubeconfig, control_planes, monkeypatch):
    [old] = states(kubeconfig)
    trust(kubeconfig, "prepare")
    trust(kubeconfig, "activate")
    for step in ("_change_secret", "note", "forget"):
        with monkeypatch.context() as patched:
            patched.setattr(trust_clusters.Cluster, step, ending)
            trust(kubeconfig, "activate", "--undo", code=1)

    trust(kubeconfig, "activate", "--undo")

    assert states(kubeconfig)[old] == "active"
    assert sorted(states(kubeconfig).values()) == ["active", "prepared"]
    trust(kubeconfig, "activate")


async def ending(*_):
    raise Failed("the terminal was closed")
