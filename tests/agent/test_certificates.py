"""A certificate's life in the agent, with a control plane that is an object."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography import x509 as raw
from hypothesis import given
from hypothesis import strategies as st

from isthmus.agent.certificates import Certificate, CertificateHolder, ControlPlanes, seconds_to_renewal
from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.trust import x509
from isthmus.trust.authority import CertificateAuthority

SECONDS = 60.0
ALICE = SpiffeId.parse("spiffe://cluster.local/ns/default/sa/alice")


class Kept:
    """What the holder told, in order."""

    def __init__(self) -> None:
        self.certificates: asyncio.Queue[Certificate] = asyncio.Queue()
        self.holder: CertificateHolder | None = None

    def __call__(self, certificate: Certificate) -> None:
        self.certificates.put_nowait(certificate)

    async def next(self) -> Certificate:
        return await self.certificates.get()

    async def failure(self) -> str:
        """The error, once there is one: nobody is called for it."""
        while not self.holder.last_error:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        return self.holder.last_error


@asynccontextmanager
async def holding(control_plane: Any, credentials: Any, **other: Any) -> AsyncIterator[Kept]:
    token, roots = credentials
    kept = Kept()
    kept.holder = CertificateHolder(
        control_plane,
        cluster="east",
        identity=ALICE.trust_domain,
        token_file=str(token),
        root_cert_file=str(roots),
        seconds=3600,
        changed=kept,
        **other,
    )
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(kept.holder.run())
        yield kept
        running.cancel()


def refused(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details)


async def test_it_is_asked_for_with_the_token_and_a_key_that_stays_here(control_plane, credentials):
    async with holding(control_plane, credentials) as kept:
        certificate = await kept.next()

    (asked,) = control_plane.asked
    assert (asked.token, asked.cluster, asked.seconds) == ("Bearer good", "east", 3600)
    assert str(certificate.identity) == "spiffe://cluster.local/ns/default/sa/alice"
    leaf = x509.parse_certificates(certificate.chain_pem)[0]
    assert x509.matches(leaf, x509.parse_key(certificate.key_pem))
    assert certificate.key_pem not in asked.csr
    assert kept.holder.current == certificate


async def test_where_only_the_trust_domain_is_known_the_token_says_whose_certificate_is_asked_for(
    control_plane, credentials
):
    """A signer gives what is asked for, so it has to be named. A token that says nothing names nobody."""
    claims = (
        base64.urlsafe_b64encode(b'{"sub": "system:serviceaccount:istio-system:istio-tunnel"}').decode().rstrip("=")
    )
    async with holding(control_plane, credentials) as kept:
        await kept.next()
        credentials[0].write_text(f"e30.{claims}.c2ln")
        kept.holder.renew()
        await kept.next()

    names = [names_in(asked.csr) for asked in control_plane.asked]
    assert names == [[], ["spiffe://cluster.local/ns/istio-system/sa/istio-tunnel"]]


def names_in(csr: str) -> list[str]:
    found = raw.load_pem_x509_csr(csr.encode()).extensions
    return [
        name
        for extension in found
        if isinstance(extension.value, raw.SubjectAlternativeName)
        for name in extension.value.get_values_for_type(raw.UniformResourceIdentifier)
    ]


async def test_it_is_renewed_before_half_of_its_life_is_over_with_another_key(control_plane, credentials):
    control_plane.life = timedelta(seconds=8)

    async with holding(control_plane, credentials) as kept:
        first, second = await kept.next(), await kept.next()
        came = datetime.now(UTC)

    facts = first.facts
    assert facts.not_after - facts.not_before == timedelta(seconds=8)
    # Two seconds for a busy machine.
    assert control_plane.asked[1].at < facts.not_before + timedelta(seconds=6)
    assert came < facts.not_after
    assert second.facts.serial != facts.serial
    assert second.key_pem != first.key_pem


@given(
    st.timedeltas(min_value=timedelta(seconds=3), max_value=timedelta(days=3650)),
    st.floats(-0.05, 0.05),
    st.floats(0, 1),
)
def test_the_time_of_renewal_is_never_past_half_nor_long_before_it(life, jitter, elapsed):
    begins = datetime(2026, 3, 1, tzinfo=UTC)
    now = begins + life * elapsed
    facts = x509.CertificateFacts(serial="1", not_before=begins, not_after=begins + life)

    seconds = seconds_to_renewal(facts, now, jitter)

    assert seconds >= 1, "never a hot loop, even with a clock that is wrong"
    if seconds > 1:
        share = (now + timedelta(seconds=seconds) - begins) / life
        assert 0.3999 <= share <= 0.5001


async def test_a_token_that_was_replaced_is_the_one_that_is_sent(control_plane, credentials):
    control_plane.failures = [refused(grpc.StatusCode.UNAUTHENTICATED, "too old")]
    token, _ = credentials
    token.write_text("old")

    async with holding(control_plane, credentials) as kept:
        await kept.failure()
        token.write_text("new")
        await kept.next()

    assert [asked.token for asked in control_plane.asked] == ["Bearer old", "Bearer new"]
    assert kept.holder.last_error == ""


async def test_a_renewal_that_fails_leaves_the_old_certificate_and_is_tried_again(control_plane, credentials):
    control_plane.life = timedelta(seconds=3)

    async with holding(control_plane, credentials) as kept:
        first = await kept.next()
        control_plane.failures = [refused(grpc.StatusCode.UNAVAILABLE, "restarting")]
        await kept.failure()
        seen = kept.holder.current, kept.holder.last_error
        second = await kept.next()

    assert seen == (first, "UNAVAILABLE: restarting")
    assert second.facts.serial != first.facts.serial


@pytest.mark.parametrize(
    "answer", ["no certificates", "one certificate", "garbage", "garbage root", "for another key", "of nobody"]
)
async def test_an_answer_that_is_no_certificate_for_this_key_is_a_failure_to_try_again(
    control_plane, credentials, authority, issue, answer
):
    """It would otherwise reach Envoy, or end what renews."""
    other = issue()
    control_plane.failures = [
        {
            "no certificates": [],
            "one certificate": [other.chain_pem],
            "garbage": ["garbage", "garbage"],
            "garbage root": [other.chain_pem, "garbage"],
            "for another key": [other.chain_pem, authority.root_pem],
            "of nobody": [authority.root_pem, authority.root_pem],
        }[answer]
    ]

    async with holding(control_plane, credentials) as kept:
        certificate = await kept.next()

    assert len(control_plane.asked) == 2
    assert kept.certificates.empty()
    assert x509.matches(x509.parse_certificates(certificate.chain_pem)[0], x509.parse_key(certificate.key_pem)), (
        "the good one came"
    )


@pytest.mark.parametrize("content", [None, b"", b"two\nlines", "sch\u00f6n".encode(), b"\xff\xfe"])
async def test_a_token_file_without_a_token_is_said_and_read_again(control_plane, credentials, content):
    token, _ = credentials
    token.unlink()
    if content is not None:
        token.write_bytes(content)

    async with holding(control_plane, credentials) as kept:
        await kept.failure()
        error = kept.holder.last_error
        token.write_text("good")
        await kept.next()

    assert str(token) in error
    assert [asked.token for asked in control_plane.asked] == ["Bearer good"]


async def test_the_key_is_not_in_what_a_log_would_show(issue):
    certificate = issue()

    shown = f"{certificate} {certificate!r} {[certificate]}"

    assert "PRIVATE" not in shown
    assert certificate.key_pem.splitlines()[1] not in shown


async def test_the_control_plane_that_answers_is_found_and_kept(token_port, credentials):
    planes = ControlPlanes(["127.0.0.1:1", token_port], "istiod.istio-system.svc")

    async with holding(planes, credentials) as kept:
        certificate = await kept.next()
        error = kept.holder.last_error

    assert str(certificate.identity) == "spiffe://cluster.local/ns/default/sa/alice"
    assert error == ""


async def test_a_control_plane_of_another_root_is_not_asked(token_port, credentials):
    """Neither token nor request is sent to somebody who cannot prove to be the control plane."""
    _, roots = credentials
    stranger = x509.new_root(TrustDomain.parse("cluster.local"), datetime.now(UTC), timedelta(days=1))
    roots.write_text(x509.certificate_pem(stranger.certificate))

    async with holding(ControlPlanes([token_port], "istiod.istio-system.svc"), credentials) as kept:
        await kept.failure()

    assert kept.holder.last_error.startswith("UNAVAILABLE")
    assert kept.holder.current is None


async def test_a_machine_proves_itself_by_its_certificate_once_it_has_one(control_plane, credentials):
    control_plane.life = timedelta(seconds=4)

    async with holding(control_plane, credentials, proves_by_certificate=True) as kept:
        first = await kept.next()
        await kept.next()

    assert [asked.token for asked in control_plane.asked[:2]] == ["Bearer good", ""]
    assert control_plane.shown[:2] == [None, first]


async def test_a_machine_that_starts_again_needs_no_token_that_is_still_good(control_plane, credentials, issue):
    kept_from_before = issue()
    credentials[0].write_text("")

    async with holding(
        control_plane, credentials, proves_by_certificate=True, last_good=lambda: kept_from_before
    ) as kept:
        await kept.next()

    assert control_plane.shown == [kept_from_before]


async def test_a_certificate_that_is_refused_makes_way_for_the_token(control_plane, credentials, issue):
    control_plane.failures = [refused(grpc.StatusCode.UNAUTHENTICATED, "not any more")]
    old = issue()

    async with holding(control_plane, credentials, proves_by_certificate=True, last_good=lambda: old) as kept:
        await kept.next()

    assert control_plane.shown == [old, None]
    assert control_plane.asked[-1].token == "Bearer good"


async def test_a_machine_whose_certificate_is_refused_and_that_has_no_token_goes_on_with_its_certificate(
    control_plane, credentials, issue
):
    control_plane.failures = [refused(grpc.StatusCode.UNAUTHENTICATED, "not now")]
    old = issue()
    credentials[0].write_text("")

    async with holding(control_plane, credentials, proves_by_certificate=True, last_good=lambda: old) as kept:
        await kept.next()

    assert control_plane.shown == [old, old]


@pytest.mark.parametrize("code", ["RESOURCE_EXHAUSTED", "INTERNAL", "FAILED_PRECONDITION"])
async def test_whatever_else_is_wrong_says_nothing_about_the_certificate(control_plane, credentials, issue, code):
    control_plane.failures = [refused(grpc.StatusCode[code], "not now")]
    old = issue()

    async with holding(control_plane, credentials, proves_by_certificate=True, last_good=lambda: old) as kept:
        await kept.next()

    assert control_plane.shown == [old, old]


async def test_where_nobody_answers_all_are_asked_by_the_certificate_then_all_by_the_token(
    control_plane, credentials, issue, monkeypatch
):
    monkeypatch.setattr("isthmus.agent.certificates._BACK_OFF_FIRST", 0.01)
    monkeypatch.setattr("isthmus.agent.certificates._BACK_OFF_MAX", 0.01)
    control_plane.count = 2
    control_plane.failures = [refused(grpc.StatusCode.UNAVAILABLE, "nobody there")] * 5
    old = issue()

    async with holding(control_plane, credentials, proves_by_certificate=True, last_good=lambda: old) as kept:
        await kept.next()
        await kept.next()

    assert control_plane.shown == [old, old, None, None, old, old]


async def test_a_machine_that_comes_back_with_a_certificate_of_a_revoked_root_joins_by_its_token(
    token_port, credentials
):
    """TLS ends such a connection: from here it looks as if nobody answered."""
    gone = CertificateAuthority.self_signed(TrustDomain("cluster.local"), datetime.now(UTC))
    key = x509.new_key()
    chain = gone.sign(x509.new_request(key), ALICE, datetime.now(UTC), timedelta(hours=1))
    old = Certificate("".join(chain[:-1]), x509.key_pem(key), chain[-1])
    planes = ControlPlanes([token_port], "istiod.istio-system.svc")
    seen = []

    async with holding(planes, credentials, proves_by_certificate=True, last_good=lambda: old) as kept:
        while (certificate := await kept.next()) == old:
            seen.append(kept.holder.last_error.split(":")[0])

    assert seen == ["UNAVAILABLE"]
    assert certificate.identity == ALICE
