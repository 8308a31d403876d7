"""Another authority takes the place of the one in use while the control plane runs; or is refused, with a reason."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from isthmus.controlplane.authority import (
    FORCED_ROOT,
    PLUGGED_IN,
    AuthorityInUse,
    AuthoritySecrets,
    follow_files,
    load_files,
    subject_of_authority,
)
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.kubeconfig import ApiAddress
from isthmus.model.identity import TrustDomain
from isthmus.model.names import ClusterId, Namespace
from isthmus.trust import x509
from isthmus.trust.authority import CertificateAuthority
from isthmus.trust.x509 import BadCertificate, Issuer

DOMAIN, SYSTEM, DAY = TrustDomain.parse("cluster.local"), Namespace("istio-system"), timedelta(days=1)
SECRETS = f"/api/v1/namespaces/{SYSTEM}/secrets"
NOW = datetime.now(UTC)


def pem(*issuers: Issuer) -> str:
    return "".join(x509.certificate_pem(issuer.certificate) for issuer in issuers)


def files(signer: Issuer, *roots: Issuer) -> dict[str, str]:
    return {"ca-cert.pem": pem(signer), "ca-key.pem": x509.key_pem(signer.key), "root-cert.pem": pem(*roots)}


def root(begins: datetime = NOW, lives: timedelta = 10 * DAY) -> Issuer:
    return x509.new_root(DOMAIN, begins, lives)


OLD, NEW = root(), root()
EAST, EAST_AGAIN = (x509.new_intermediate(OLD, "east", NOW, DAY) for _ in range(2))
EAST_UNDER_NEW = x509.new_intermediate(NEW, "east", NOW, DAY)


class Plugged:
    """What is plugged in, and what came of it."""

    def __init__(self, first: dict[str, str]) -> None:
        self.issues: list[Any] = []
        self.taken: list[CertificateAuthority] = []
        subject = subject_of_authority(ClusterId("east"), SYSTEM, "")
        self.use = AuthorityInUse(CertificateAuthority.from_files(first, NOW), subject, self._report)
        self.use.changed.append(self.taken.append)

    def _report(self, issues: Any) -> None:
        self.issues[:] = issues

    @property
    def signs(self) -> x509.Certificate:
        return self.use.current.issuer.certificate


@pytest.fixture
def plugged() -> Plugged:
    return Plugged(files(EAST, OLD))


def test_an_intermediate_of_the_same_root_signs_at_once(plugged):
    plugged.use.offer(files(EAST_AGAIN, OLD))

    assert plugged.signs == EAST_AGAIN.certificate
    assert [each.issuer.certificate for each in plugged.taken] == [EAST_AGAIN.certificate]


def test_the_same_again_changes_nothing(plugged):
    """A watch that begins anew tells what is there."""
    plugged.use.offer(files(EAST, OLD))

    assert plugged.taken == []


def test_a_root_changes_in_three_steps(plugged):
    for step in (files(EAST, OLD, NEW), files(EAST_UNDER_NEW, OLD, NEW), files(EAST_UNDER_NEW, NEW)):
        plugged.use.offer(step)
        assert plugged.issues == []

    assert len(plugged.taken) == 3
    assert plugged.use.current.roots == {x509.fingerprint(NEW.certificate)}


@pytest.mark.parametrize(
    ("offered", "why"),
    [
        (files(EAST_UNDER_NEW, NEW), "is not among those that proxies trust"),
        (files(EAST, NEW), "does not lead from ca-cert.pem to root-cert.pem"),
        (files(EAST, OLD) | {"ca-key.pem": x509.key_pem(NEW.key)}, "is not the key of"),
        (files(EAST, OLD) | {"ca-key.pem": ""}, "ca-key.pem is missing"),
        ({}, "ca-cert.pem, ca-key.pem is missing"),
        (files(x509.new_intermediate(OLD, "late", NOW - 3 * DAY, DAY), OLD), "which is not now"),
        (files(x509.new_intermediate(EAST, "deep", NOW, DAY), OLD) | {"cert-chain.pem": pem(EAST)}, "allows 0"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_reason_and_the_one_before_goes_on(plugged, offered, why):
    plugged.use.offer(offered)

    assert why in plugged.use.refusal
    assert [(issue.code, issue.subject.name) for issue in plugged.issues] == [("ISM0207", "cacerts")]
    assert why in plugged.issues[0].what
    assert plugged.signs == EAST.certificate
    assert plugged.taken == []


def test_the_root_that_is_signed_under_is_not_taken_away_together_with_its_authority(plugged):
    plugged.use.offer(files(EAST, OLD, NEW))
    plugged.use.offer(files(EAST_UNDER_NEW, NEW))

    assert "takes the root" in plugged.use.refusal
    assert plugged.signs == EAST.certificate


def test_a_mended_one_is_taken_and_the_finding_goes(plugged):
    plugged.use.offer({})
    plugged.use.offer(files(EAST_AGAIN, OLD))

    assert (plugged.use.refusal, plugged.issues) == ("", [])
    assert plugged.signs == EAST_AGAIN.certificate


def test_an_operator_who_names_the_root_may_take_it_into_use_at_once(plugged):
    plugged.use.offer(files(EAST_UNDER_NEW, NEW), forced_root=x509.fingerprint(OLD.certificate))
    assert plugged.signs == EAST.certificate, "another root than the one that was named"

    plugged.use.offer(files(EAST_UNDER_NEW, NEW), forced_root=x509.fingerprint(NEW.certificate))
    assert plugged.signs == EAST_UNDER_NEW.certificate


def test_the_names_of_cert_manager_are_understood():
    found = CertificateAuthority.from_files(
        {"tls.crt": pem(EAST), "tls.key": x509.key_pem(EAST.key), "ca.crt": pem(OLD)}, NOW
    )

    assert found.issuer.certificate == EAST.certificate
    assert found.root == OLD.certificate


def encoded(entries: dict[str, str]) -> dict[str, str]:
    return {name: base64.b64encode(text.encode()).decode() for name, text in entries.items()}


@asynccontextmanager
async def followed(cluster: Any, plugged: Plugged) -> AsyncIterator[None]:
    async with ApiClient(ApiAddress(server=cluster.url)) as client, asyncio.TaskGroup() as tasks:
        task = tasks.create_task(AuthoritySecrets(client, SYSTEM, plugged.use).run(), name="authority")
        yield
        task.cancel()


async def until(holds: Callable[[], Any]) -> None:
    for _ in range(6000):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("not in a minute")


async def test_a_changed_secret_is_taken_into_use_and_one_that_goes_is_not_the_end(fake_cluster, plugged):
    cluster = await fake_cluster()
    await cluster.put(SECRETS, PLUGGED_IN, SYSTEM, data=encoded(files(EAST, OLD)))

    async with followed(cluster, plugged):
        await cluster.put(SECRETS, PLUGGED_IN, SYSTEM, data=encoded(files(EAST_AGAIN, OLD)))
        await until(lambda: plugged.signs == EAST_AGAIN.certificate)
        await cluster.put(SECRETS, PLUGGED_IN, SYSTEM, data={"ca-cert.pem": "%%%"})
        await until(lambda: plugged.use.refusal)
        await cluster.delete(SECRETS, PLUGGED_IN, SYSTEM)
        await until(lambda: plugged.use.refusal == "it is gone")
        assert plugged.signs == EAST_AGAIN.certificate
        notes = {"annotations": {FORCED_ROOT: x509.fingerprint(NEW.certificate)}}
        await cluster.put(SECRETS, PLUGGED_IN, SYSTEM, data=encoded(files(EAST_UNDER_NEW, NEW)), metadata=notes)
        await until(lambda: plugged.signs == EAST_UNDER_NEW.certificate)


async def test_files_of_a_directory_are_followed(tmp_path, plugged):
    def write(found: dict[str, str]) -> None:
        for name, text in found.items():
            (tmp_path / name).write_text(text)

    with pytest.raises(BadCertificate, match="is missing"):
        load_files(tmp_path)
    write(files(EAST, OLD))
    assert load_files(tmp_path).issuer.certificate == EAST.certificate

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(follow_files(tmp_path, plugged.use), name="files")
        write(files(EAST_AGAIN, OLD))
        await until(lambda: plugged.signs == EAST_AGAIN.certificate)
        task.cancel()
