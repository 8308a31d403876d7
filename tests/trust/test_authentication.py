"""Who is calling: by certificate, by token of the right cluster, or not at all."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.model.names import ClusterId, Namespace
from isthmus.trust import x509
from isthmus.trust.authentication import Authenticator, Caller, NotAuthenticated, ServiceAccount

ALICE = ServiceAccount(Namespace("default"), "alice")
ALICE_ID = SpiffeId.parse("spiffe://cluster.local/ns/default/sa/alice")
EAST, WEST = ClusterId("east"), ClusterId("west")


class ApiServers:
    """Each cluster accepts its own tokens. Remembers what it was asked."""

    def __init__(self) -> None:
        self.accounts = {EAST: {"token-of-east": ALICE}, WEST: {"token-of-west": ALICE}}
        self.asked: list[tuple[str, ClusterId]] = []

    async def review(self, token: str, cluster: ClusterId) -> ServiceAccount | None:
        self.asked.append((token, cluster))
        return self.accounts[cluster].get(token)


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def servers():
    return ApiServers()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def authenticator(domain, servers, clock):
    return Authenticator(domain, EAST, servers.review, clock)


def bearer(token: str, cluster: str = "") -> dict[str, str]:
    return {"authorization": f"Bearer {token}"} | ({"clusterid": cluster} if cluster else {})


@pytest.mark.parametrize(
    ("metadata", "cluster"),
    [
        (bearer("token-of-west", "west"), WEST),
        (bearer("token-of-east", "east"), EAST),
        (bearer("token-of-east"), EAST),
        ({"authorization": "bearer  token-of-east "}, EAST),
    ],
)
async def test_a_token_that_its_cluster_accepts_is_the_service_account_in_our_trust_domain(
    authenticator, metadata, cluster
):
    assert await authenticator.caller(metadata, "") == Caller(ALICE_ID, cluster, "token")


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"authorization": "Basic dXNlcjpwYXNz"}, id="a password"),
        pytest.param({"authorization": "Bearer"}, id="no token"),
        pytest.param(bearer(""), id="an empty token"),
        pytest.param(bearer("token-of-west", "east"), id="a token of another cluster"),
        pytest.param(bearer("token-of-west"), id="a token of another cluster that does not say so"),
        pytest.param(bearer("token-of-east", "south"), id="a cluster that is not known"),
        pytest.param(bearer("made-up", "east"), id="a token that nobody issued"),
    ],
)
async def test_who_proves_nothing_is_nobody(authenticator, metadata):
    with pytest.raises(NotAuthenticated):
        await authenticator.caller(metadata, "")


async def test_a_certificate_is_its_identity_and_no_token_is_reviewed(authenticator, servers, root, now):
    leaf = x509.sign_workload(root, x509.new_key().public_key(), ALICE_ID, now, timedelta(hours=1))

    caller = await authenticator.caller(bearer("token-of-west", "west"), x509.certificate_pem(leaf))

    assert caller == Caller(ALICE_ID, None, "certificate")
    assert servers.asked == []


async def test_a_certificate_of_another_trust_domain_is_nobodys_and_a_token_does_not_help(authenticator, root, now):
    stranger = SpiffeId(TrustDomain.parse("elsewhere"), ALICE_ID.path)
    leaf = x509.sign_workload(root, x509.new_key().public_key(), stranger, now, timedelta(hours=1))

    with pytest.raises(NotAuthenticated, match="another trust domain"):
        await authenticator.caller(bearer("token-of-east"), x509.certificate_pem(leaf))


@pytest.mark.parametrize("pem", ["garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
async def test_a_certificate_that_cannot_be_read_is_nobodys(authenticator, pem):
    with pytest.raises(NotAuthenticated):
        await authenticator.caller({}, pem)


async def test_a_good_token_is_reviewed_once_a_minute(authenticator, servers, clock):
    for clock.seconds in (0.0, 30.0, 59.0, 61.0):
        await authenticator.caller(bearer("token-of-east"), "")

    assert servers.asked == [("token-of-east", EAST)] * 2


async def test_a_token_that_is_withdrawn_is_refused_within_a_minute(authenticator, servers, clock):
    await authenticator.caller(bearer("token-of-east"), "")
    servers.accounts[EAST].clear()
    clock.seconds = 60.0

    with pytest.raises(NotAuthenticated):
        await authenticator.caller(bearer("token-of-east"), "")


async def test_a_token_whose_pod_has_gone_is_asked_about_again_at_once(domain, servers, clock):
    """Somebody has kept it; the API server knows that it is worth nothing now."""
    servers.accounts[EAST] = {"token-of-east": replace(ALICE, pod=("alice-1", "u1"))}
    running = {"u1", "u2"}
    authenticator = Authenticator(
        domain, EAST, servers.review, clock, may_run=lambda _, account: account.pod[1] in running
    )
    await authenticator.caller(bearer("token-of-east"), "")
    await authenticator.caller(bearer("token-of-east"), "")
    assert len(servers.asked) == 1

    running.remove("u1")
    servers.accounts[EAST].clear()

    with pytest.raises(NotAuthenticated):
        await authenticator.caller(bearer("token-of-east"), "")


async def test_a_refusal_is_not_remembered(authenticator, servers):
    with pytest.raises(NotAuthenticated):
        await authenticator.caller(bearer("new-token"), "")
    servers.accounts[EAST]["new-token"] = ALICE

    assert await authenticator.caller(bearer("new-token"), "") == Caller(ALICE_ID, EAST, "token")


async def test_what_one_cluster_accepted_is_nothing_to_another(authenticator):
    await authenticator.caller(bearer("token-of-east", "east"), "")

    with pytest.raises(NotAuthenticated):
        await authenticator.caller(bearer("token-of-east", "west"), "")


async def test_however_many_tokens_are_good_so_many_are_remembered_and_no_more(domain, clock):
    async def review(_token: str, _cluster: ClusterId) -> ServiceAccount:
        return ALICE

    authenticator = Authenticator(domain, EAST, review, clock)
    for number in range(10_050):
        await authenticator.caller(bearer(f"token {number}"), "")

    assert len(authenticator._known) <= 10_000
