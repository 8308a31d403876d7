"""The real Envoy, with the agent's own socket for secrets: whom it lets in, asked as the agent asks it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from revocation_lists import revoking

from isthmus.agent.certificates import Certificate
from isthmus.agent.envoy_binary import envoy_path
from isthmus.agent.own_trust import _not_covered
from isthmus.agent.proof import _context, shown_to_envoy
from isthmus.agent.secrets_server import SecretsServer
from isthmus.envoy.bootstrap import PROOF_PATH, BootstrapSettings, bootstrap
from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.trust import x509
from isthmus.trust.authority import CertificateAuthority

DOMAIN, HOUR, NOW = TrustDomain.parse("cluster.local"), timedelta(hours=1), datetime.now(UTC)
ALICE = SpiffeId.parse("spiffe://cluster.local/ns/default/sa/alice")
ROOT = x509.new_root(DOMAIN, NOW, 10 * HOUR)
ROOT_PEM = x509.certificate_pem(ROOT.certificate)
OK = b"HTTP/1.1 200 OK\r\n"
EAST, WEST = (x509.new_intermediate(ROOT, name, NOW, 5 * HOUR) for name in ("east", "west"))


def issued(issuer: x509.Issuer, roots_pem: str = ROOT_PEM) -> Certificate:
    authority = CertificateAuthority(issuer, ROOT_PEM)
    key = x509.new_key()
    chain = authority.sign(x509.new_request(key), ALICE, NOW, HOUR)
    return Certificate("".join(chain[:-1]), x509.key_pem(key), roots_pem)


class Envoy:
    """Its own certificate is of east; it has no control plane."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secrets = SecretsServer(folder / "sds.sock")
        self.own = issued(EAST)

    async def lets_in(self, shown: Certificate) -> str:
        """Nothing, or why not."""
        return await shown_to_envoy(self.folder / "proof.sock", shown, self.own.roots_pem)

    @asynccontextmanager
    async def opened(self, shown: Certificate) -> AsyncIterator[Callable[[], Awaitable[bytes]]]:
        """One connection, which asks as often as it is called; it gives the line with the status, or nothing once it is closed."""
        reader, writer = await asyncio.open_unix_connection(
            str(self.folder / "proof.sock"), ssl=_context(shown, self.own.roots_pem), server_hostname=""
        )

        async def ask() -> bytes:
            async with asyncio.timeout(60):
                writer.write(f"GET {PROOF_PATH} HTTP/1.1\r\nhost: proof\r\n\r\n".encode())
                said = await reader.readline()
                while said and await reader.readline() not in (b"\r\n", b""):
                    pass
            return said

        try:
            yield ask
        finally:
            writer.transport.abort()

    async def told(self) -> None:
        """Until it has acknowledged what it was given."""
        async with asyncio.timeout(60):
            while self.secrets.not_accepted():  # noqa: ASYNC110 - nobody is called for it
                await asyncio.sleep(0.01)


@pytest.fixture
async def envoy(folder) -> AsyncIterator[Envoy]:
    found = Envoy(folder)
    await found.secrets.start()
    found.secrets.check_control_planes(ROOT_PEM)
    found.secrets.put(found.own)
    document = json.loads(
        bootstrap(
            BootstrapSettings(
                node={"id": "a", "cluster": "b"},
                control_planes=(("127.0.0.1", 1),),
                control_plane_name="nobody",
                sds_socket=str(folder / "sds.sock"),
                admin_socket=str(folder / "admin.sock"),
                health_socket=str(folder / "health.sock"),
                proof_socket=str(folder / "proof.sock"),
                marks_sockets=False,
            )
        )
    )
    # It would wait for a control plane before it begins, and the other listeners have ports of the machine.
    del document["dynamic_resources"]
    listeners = document["static_resources"]["listeners"]
    document["static_resources"]["listeners"] = [each for each in listeners if "pipe" in each["address"]]
    (folder / "bootstrap.json").write_text(json.dumps(document))
    process = await asyncio.create_subprocess_exec(
        envoy_path(), "-c", str(folder / "bootstrap.json"), "--concurrency", "1", "--disable-hot-restart", "-l", "off"
    )
    await found.told()
    async with asyncio.timeout(60):
        while await found.lets_in(found.own):
            assert process.returncode is None
            await asyncio.sleep(0.05)
    yield found
    process.kill()
    await process.wait()
    await found.secrets.stop()


async def test_who_is_of_a_root_is_let_in_as_soon_as_it_is_trusted(envoy):
    new = x509.new_root(DOMAIN, NOW, HOUR)
    new_pem = x509.certificate_pem(new.certificate)
    shown = issued(x509.new_intermediate(new, "east", NOW, HOUR))
    assert await envoy.lets_in(shown) != ""

    envoy.own = issued(EAST, ROOT_PEM + new_pem)
    envoy.secrets.put(envoy.own)
    await envoy.told()

    assert await envoy.lets_in(shown) == ""
    assert await envoy.lets_in(issued(EAST)) == "", "the old one is trusted, too"


async def test_what_a_revocation_list_names_is_refused_and_nothing_else(envoy):
    good, stolen, of_west = issued(EAST), issued(EAST), issued(WEST)
    assert [await envoy.lets_in(each) for each in (good, stolen, of_west)] == ["", "", ""]

    envoy.secrets.refuse(revoking(ROOT) + revoking(EAST, stolen.chain_pem) + revoking(WEST))
    await envoy.told()
    assert [bool(await envoy.lets_in(each)) for each in (good, stolen, of_west)] == [False, True, False]

    west = x509.certificate_pem(WEST.certificate)
    envoy.secrets.refuse(revoking(ROOT, west) + revoking(EAST) + revoking(WEST))
    await envoy.told()
    assert [bool(await envoy.lets_in(each)) for each in (good, stolen, of_west)] == [False, False, True]

    envoy.secrets.refuse("")
    await envoy.told()
    assert await envoy.lets_in(of_west) == ""


async def test_open_connections_stay_and_nobody_else_fails_while_a_certificate_is_revoked_and_the_root_changes(envoy):
    """Whoever is on the list is refused from then on, until it has another certificate."""
    good, stolen = issued(EAST), issued(EAST)
    new = x509.new_root(DOMAIN, NOW, HOUR, "new")
    under = x509.new_intermediate(new, "east new", NOW, HOUR)
    lists = revoking(ROOT) + revoking(EAST, stolen.chain_pem)
    seen: list[str] = []

    async def come_again() -> None:
        while True:
            seen.append(await envoy.lets_in(good))

    async with envoy.opened(good) as of_good, envoy.opened(stolen) as of_stolen, asyncio.TaskGroup() as tasks:
        assert [await of_good(), await of_stolen()] == [OK, OK]
        coming = tasks.create_task(come_again())

        envoy.secrets.refuse(lists)
        await envoy.told()
        assert await envoy.lets_in(stolen) != ""
        assert [await of_good(), await of_stolen()] == [OK, OK]

        envoy.own = issued(EAST, ROOT_PEM + x509.certificate_pem(new.certificate))
        envoy.secrets.put(envoy.own)
        envoy.secrets.refuse(lists + x509.nothing_revoked(new, NOW) + x509.nothing_revoked(under, NOW))
        await envoy.told()
        assert [bool(await envoy.lets_in(each)) for each in (stolen, issued(under))] == [True, False]
        assert [await of_good(), await of_stolen()] == [OK, OK]
        coming.cancel()

    assert len(seen) > 3
    assert set(seen) == {""}


async def test_a_new_root_is_let_in_with_lists_that_name_nobody(envoy):
    """As they are made together with it; those of the old root go on to count."""
    new = x509.new_root(DOMAIN, NOW, HOUR, "new")
    under = x509.new_intermediate(new, "east new", NOW, HOUR)
    good, stolen, of_new = issued(EAST), issued(EAST), issued(under)
    envoy.own = issued(EAST, ROOT_PEM + x509.certificate_pem(new.certificate))
    envoy.secrets.put(envoy.own)
    before = revoking(ROOT) + revoking(EAST, stolen.chain_pem)
    envoy.secrets.refuse(before)
    await envoy.told()
    assert [bool(await envoy.lets_in(each)) for each in (good, stolen, of_new)] == [False, True, True]

    envoy.secrets.refuse(before + x509.nothing_revoked(new, NOW) + x509.nothing_revoked(under, NOW))
    await envoy.told()

    assert [bool(await envoy.lets_in(each)) for each in (good, stolen, of_new)] == [False, True, False]


async def test_envoy_refuses_whatever_there_is_no_list_about(envoy):
    """Why lists are checked before proxies are given them."""
    envoy.secrets.refuse(revoking(ROOT) + revoking(EAST))
    await envoy.told()

    assert await envoy.lets_in(issued(EAST)) == ""
    assert await envoy.lets_in(issued(WEST)) != ""


def test_an_agent_takes_no_lists_that_would_refuse_its_own_proxy():
    held = issued(EAST)

    assert _not_covered(held, revoking(ROOT) + revoking(EAST)) == ""
    assert "no revocation list of CN=Intermediate CA east" in _not_covered(held, revoking(ROOT) + revoking(WEST))
    assert "no revocation list of CN=Root CA" in _not_covered(held, revoking(EAST))
    assert "has run out" in _not_covered(held, revoking(ROOT) + revoking(EAST, until=-timedelta(minutes=1)))
