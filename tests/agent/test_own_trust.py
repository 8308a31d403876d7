"""What an agent does when the authorities of its trust domain change, and when it says that it has done it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from revocation_lists import revoking

from isthmus.agent import own_trust
from isthmus.agent.certificates import Certificate
from isthmus.agent.own_trust import OwnTrustKeeper, is_due
from isthmus.agent.proof import verified_by_files
from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.model.trust import OwnTrust
from isthmus.trust import x509
from isthmus.trust.authority import CertificateAuthority

DOMAIN = TrustDomain.parse("cluster.local")
ALICE = SpiffeId.parse("spiffe://cluster.local/ns/default/sa/alice")


def authority() -> CertificateAuthority:
    return CertificateAuthority.self_signed(DOMAIN, datetime.now(UTC))


OLD, NEW = authority(), authority()
OLD_ROOT, NEW_ROOT = (x509.fingerprint(each.root) for each in (OLD, NEW))
BOTH = "".join((OLD.root_pem, NEW.root_pem))


def issued(by: CertificateAuthority, roots_pem: str) -> Certificate:
    key = x509.new_key()
    chain = by.sign(x509.new_request(key), ALICE, datetime.now(UTC), timedelta(hours=1))
    return Certificate("".join(chain[:-1]), x509.key_pem(key), roots_pem)


class Holder:
    """Renews at once, with what `source` signs then and these roots."""

    def __init__(self) -> None:
        self.source, self.roots_pem, self.last_error = OLD, OLD.root_pem, ""
        self.current: Certificate | None = issued(OLD, OLD.root_pem)
        self.renewals = 0

    def renew(self) -> None:
        self.renewals += 1
        self.current = issued(self.source, self.roots_pem)

    async def request(self, seconds: int, root: str = "") -> Certificate:
        return issued(NEW if root == NEW_ROOT else OLD, BOTH)


class Proxy:
    """What the Envoy has acknowledged, and whom it lets in."""

    def __init__(self, roots_file: Path) -> None:
        self.holder = Holder()
        self.roots_file = roots_file
        self.not_accepted = ""
        self.lets_in: set[str] = set()
        self.shown: list[str] = []
        self.answers: asyncio.Queue[str] = asyncio.Queue()
        self.crl = ""
        self.keeper = OwnTrustKeeper(
            self.holder,  # type: ignore[arg-type]
            str(roots_file),
            lambda: self.not_accepted,
            self._prove,
            lambda crl: setattr(self, "crl", crl),
        )
        roots_file.write_text(OLD.root_pem)

    async def _prove(self, shown: Certificate) -> str:
        [root] = x509.leads_to(shown.chain_pem, x509.parse_certificates(BOTH))
        self.shown.append(root)
        return "" if root in self.lets_in else "Envoy refused the certificate"

    def ask(self, crl: str = "", **what: tuple[str, ...]) -> None:
        asked = OwnTrust(**{name: tuple(sorted(roots)) for name, roots in what.items()}, crl=crl)
        self.keeper.ask(asked, self.answers.put)

    async def answer(self) -> str:
        async with asyncio.timeout(60):
            return await self.answers.get()


@pytest.fixture
async def proxy(tmp_path, monkeypatch) -> AsyncIterator[Proxy]:
    """It says at once what is missing, and looks again soon."""
    monkeypatch.setattr(own_trust, "_TOLD_AFTER_SECONDS", -1.0)
    monkeypatch.setattr(own_trust, "_PAUSE_MAX", 0.05)
    found = Proxy(tmp_path / "root-cert.pem")
    async with running(found):
        yield found


@asynccontextmanager
async def running(proxy: Proxy) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(proxy.keeper.run(), name="keeper")
        yield
        task.cancel()


async def test_what_the_proxy_holds_already_is_acknowledged_at_once(proxy):
    proxy.ask(roots=(OLD_ROOT,))

    assert await proxy.answer() == ""
    assert proxy.holder.renewals == 0


async def test_a_new_root_is_acknowledged_when_certificate_file_envoy_and_a_handshake_have_it(proxy):
    proxy.holder.roots_pem = OLD.root_pem
    proxy.not_accepted = "Envoy has not acknowledged its secrets"

    proxy.ask(roots=(OLD_ROOT, NEW_ROOT), proved=(NEW_ROOT,))

    assert "not renewed" in await proxy.answer()
    proxy.holder.roots_pem = BOTH
    assert f"lacks root {NEW_ROOT[:12]}" in await proxy.answer()
    proxy.roots_file.write_text(BOTH)
    assert await proxy.answer() == "Envoy has not acknowledged its secrets"
    assert proxy.shown == [], "nothing is shown to an Envoy that does not know it yet"
    proxy.not_accepted = ""
    assert await proxy.answer() == f"no handshake under root {NEW_ROOT[:12]}: Envoy refused the certificate"
    proxy.lets_in.add(NEW_ROOT)
    assert await proxy.answer() == ""
    assert set(proxy.shown) == {NEW_ROOT}


async def test_a_tainted_root_means_a_new_certificate_now(proxy):
    proxy.holder.current, proxy.holder.roots_pem, proxy.holder.source = issued(OLD, BOTH), BOTH, NEW
    proxy.roots_file.write_text(BOTH)

    proxy.ask(roots=(OLD_ROOT, NEW_ROOT))
    assert await proxy.answer() == ""
    assert proxy.holder.renewals == 0
    proxy.ask(roots=(OLD_ROOT, NEW_ROOT), tainted=(OLD_ROOT,))

    assert "not renewed" in await proxy.answer()
    assert await proxy.answer() == ""
    assert proxy.holder.current is not None
    assert x509.leads_to(proxy.holder.current.chain_pem, x509.parse_certificates(BOTH)) == {NEW_ROOT}


async def test_the_newest_question_counts_and_one_that_was_taken_back_does_not(proxy):
    proxy.ask(roots=(OLD_ROOT, NEW_ROOT))
    assert "not renewed" in await proxy.answer()

    proxy.ask(roots=(OLD_ROOT,))

    assert await proxy.answer() == ""


async def test_whom_a_list_names_is_refused_whatever_else_is_still_to_be_done(proxy):
    lists = revoking(OLD.issuer)
    proxy.not_accepted = "Envoy has not acknowledged its secrets"

    proxy.ask(roots=(OLD_ROOT, NEW_ROOT), crl=lists)

    assert "not renewed" in await proxy.answer()
    assert proxy.crl == lists
    proxy.ask(roots=(OLD_ROOT,))
    await proxy.answer()
    assert proxy.crl == "", "lists that are gone refuse nobody"


async def test_a_list_by_which_the_proxy_itself_would_be_refused_is_not_taken(proxy):
    proxy.ask(roots=(OLD_ROOT,), crl=revoking(NEW.issuer))

    assert "no revocation list of" in await proxy.answer()
    assert proxy.crl == ""


@pytest.mark.parametrize(
    ("held", "asked", "due"),
    [
        (issued(OLD, OLD.root_pem), OwnTrust(roots=(OLD_ROOT,)), False),
        (issued(OLD, OLD.root_pem), OwnTrust(roots=(OLD_ROOT, NEW_ROOT)), True),
        (issued(OLD, BOTH), OwnTrust(roots=(NEW_ROOT,)), True),
        (issued(OLD, BOTH), OwnTrust(roots=(OLD_ROOT, NEW_ROOT), tainted=(OLD_ROOT,)), True),
        (issued(NEW, BOTH), OwnTrust(roots=(OLD_ROOT, NEW_ROOT), tainted=(OLD_ROOT,)), False),
        (issued(NEW, OLD.root_pem), OwnTrust(roots=(OLD_ROOT,)), True),
    ],
)
def test_a_certificate_is_due_when_its_roots_are_others_or_only_tainted_ones_vouch_for_it(held, asked, due):
    assert is_due(held, asked) is due


def test_without_an_envoy_the_files_are_checked():
    assert verified_by_files(issued(NEW, BOTH), BOTH) == ""
    assert verified_by_files(issued(NEW, BOTH), OLD.root_pem) != ""
