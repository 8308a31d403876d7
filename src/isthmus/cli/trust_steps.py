"""The steps of a root's life, as `isthmus trust` takes them: what is looked at, waited for and written, in every cluster of the mesh.

Each may be repeated: what is done already is left as it is. This module is imported when a step is taken, not before.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import NoReturn

import click

from isthmus.cli.errors import BAD_INPUT, TIMED_OUT, Failed
from isthmus.cli.trust_clusters import Cluster, asked, files_of, renewed
from isthmus.model.identity import TrustDomain
from isthmus.trust import rotation, x509
from isthmus.trust.authority import CRL, CertificateAuthority
from isthmus.trust.rotation import PREPARED, PREVIOUS, ClusterTrust, Root, RootState, Waiting
from isthmus.trust.x509 import Issuer

Condition = Callable[[Sequence[ClusterTrust]], list[Waiting]]

_PAUSE_SECONDS = 0.5
_NAMED_MAX = 5
_ROOT_LIFETIME, _INTERMEDIATE_LIFETIME = timedelta(days=3650), timedelta(days=365)


async def prepare(clusters: list[Cluster], given: Issuer | None) -> str:
    """The fingerprint of the root that is prepared everywhere now."""
    prepared = {cluster.root_of(PREPARED) for cluster in clusters}
    complete = len(prepared) == 1 and "" not in prepared
    wanted = x509.fingerprint(given.certificate) if given is not None else ""
    if complete and wanted in ("", *prepared):
        root = prepared.pop()
        pem = x509.certificate_pem(clusters[0].kept[PREPARED].root)
    else:
        if any(each and each in (c.trust.active for c in clusters) for each in prepared):
            raise Failed("a prepared root signs in some clusters already: finish it with `isthmus trust activate`")
        if complete:
            raise Failed(
                "another root is prepared already: activate it, or take it back with `isthmus trust prepare --undo`"
            )
        if prepared - {""}:
            click.echo("a root was prepared in some clusters only: it is replaced", err=True)
            await _take_back(clusters)
        now = datetime.now(UTC)
        # By its name alone a revocation list is found, so no authority has one that was another's before.
        label = f"{now:%Y-%m-%d} {secrets.token_hex(2)}"
        above = given or x509.new_root(_domain(clusters), now, _ROOT_LIFETIME, label)
        root, pem = x509.fingerprint(above.certificate), x509.certificate_pem(above.certificate)
        made = [x509.new_intermediate(above, f"{c.name} {label}", now, _INTERMEDIATE_LIFETIME) for c in clusters]
        try:
            x509.check_path((made[0].certificate, above.certificate), now)
        except x509.BadCertificate as error:
            raise Failed(f"the root cannot be used: {error}", exit_code=BAD_INPUT) from None
        # Where revocations are looked at, what no list is about is refused. Nobody can sign one of the root later on.
        empty = {CRL: "".join(x509.nothing_revoked(each, now) for each in (above, *made))}
        for cluster, issuer in zip(clusters, made, strict=True):
            await cluster.keep(PREPARED, files_of(CertificateAuthority(issuer, pem), pem) | empty)
        click.echo(f"root {root[: x509.SHORT]} is made; each cluster has an authority under it", err=True)

    for cluster in await renewed(clusters):
        if root not in cluster.roots:
            lists = f"{cluster.authority.crl_pem}\n{cluster.kept[PREPARED].crl_pem}"
            await cluster.trust_roots("".join([*cluster.roots.values(), pem]), lists)
        if cluster.trust.active != root:
            await cluster.note({root: RootState.PREPARED, cluster.trust.active: RootState.ACTIVE}, datetime.now(UTC))
    return root


async def unprepare(clusters: list[Cluster], seconds: int) -> list[Cluster]:
    roots = {cluster.root_of(PREPARED) for cluster in clusters} - {""}
    if not roots:
        raise Failed("no root is prepared", exit_code=BAD_INPUT)
    if roots & {cluster.trust.active for cluster in clusters}:
        raise Failed(
            "the prepared root signs in some clusters already: go back there with `isthmus trust activate --undo`"
        )
    await _take_back(clusters)
    return await wait(clusters, lambda found: [w for root in roots for w in rotation.not_revoked(found, root)], seconds)


async def _take_back(clusters: list[Cluster]) -> None:
    for cluster in clusters:
        root = cluster.root_of(PREPARED)
        if root and root != cluster.trust.active:
            await _distrust(cluster, root, clusters)
            await cluster.note({root: None}, datetime.now(UTC))
            await cluster.forget(PREPARED)


async def _distrust(cluster: Cluster, root: str, clusters: Sequence[Cluster]) -> None:
    """Without the revocation lists of authorities under the root: nobody would renew them."""
    gone = [each for one in clusters for each in one.authorities_under({root})]
    _, lists = x509.split_revocations(cluster.authority.crl_pem, gone)
    await cluster.trust_roots("".join(pem for each, pem in cluster.roots.items() if each != root), lists)


async def activate(clusters: list[Cluster], seconds: int, *, force: bool) -> list[Cluster]:
    roots = {cluster.root_of(PREPARED) for cluster in clusters if cluster.root_of(PREPARED)}
    active = {cluster.trust.active for cluster in clusters}
    if not roots and len(active) == 1:
        root = active.pop()
        click.echo("nothing is prepared: what signs goes on signing", err=True)
        return await wait(clusters, lambda found: rotation.not_active(found, root), seconds)
    if len(roots) != 1 or any(c.root_of(PREPARED) not in roots and c.trust.active not in roots for c in clusters):
        raise Failed("no root is prepared in every cluster: begin with `isthmus trust prepare`", exit_code=BAD_INPUT)
    root = roots.pop()
    ready = await _gate(clusters, lambda found: rotation.not_prepared(found, root), seconds, force=force)
    await _switch(ready, root)
    return await wait(ready, lambda found: rotation.not_active(found, root), seconds)


async def _switch(clusters: list[Cluster], root: str) -> None:
    """The prepared authorities sign from now on."""
    now = datetime.now(UTC)
    for cluster in clusters:
        before = cluster.trust.active
        if before != root:
            await cluster.sign_with(cluster.kept[PREPARED])
            await cluster.note({root: RootState.ACTIVE, before: RootState.RETIRING}, now)
        await cluster.forget(PREPARED)


async def inactivate(clusters: list[Cluster], seconds: int) -> list[Cluster]:
    """What signed before signs again, and what signs now is prepared again."""
    back = [cluster for cluster in clusters if PREVIOUS in cluster.kept]
    if not back:
        raise Failed("there is nothing to go back to: no authority of before is kept", exit_code=BAD_INPUT)
    for cluster in back:
        previous = cluster.root_of(PREVIOUS)
        record = cluster.records.get(previous)
        if previous not in cluster.roots or (record is not None and record.state is RootState.TAINTED):
            raise Failed(
                f"{cluster.name}: the root of before is tainted or not trusted any longer: there is no way back"
            )
    root = back[0].root_of(PREVIOUS)
    for cluster in back:
        await cluster.go_back()
    return await wait(clusters, lambda found: rotation.not_active(found, root), seconds)


async def taint(clusters: list[Cluster], named: str, seconds: int) -> list[Cluster]:
    root = _chosen(clusters, named, (RootState.RETIRING, RootState.TRUSTED, RootState.TAINTED))
    if root.state is RootState.ACTIVE:
        raise Failed(f"root {_short(root)} signs: prepare and activate another one before", exit_code=BAD_INPUT)
    for cluster in clusters:
        if root.fingerprint in cluster.roots:
            await cluster.note({root.fingerprint: RootState.TAINTED}, datetime.now(UTC))
    return await wait(clusters, lambda found: rotation.still_in_use(found, root.fingerprint), seconds)


async def untaint(clusters: list[Cluster], named: str) -> list[Cluster]:
    root = _chosen(clusters, named, (RootState.TAINTED,))
    for cluster in clusters:
        if root.fingerprint in cluster.roots:
            await cluster.note({root.fingerprint: RootState.RETIRING}, datetime.now(UTC))
    return await asked(clusters)


async def revoke(clusters: list[Cluster], named: str, seconds: int, *, force: bool) -> list[Cluster]:
    root = _chosen(clusters, named, (RootState.TAINTED,))
    if root.state is RootState.REVOKED:
        return await wait(clusters, lambda found: rotation.not_revoked(found, root.fingerprint), seconds)
    if root.state is not RootState.TAINTED and not force:
        raise Failed(f"root {_short(root)} is {root.state}: taint it before", exit_code=BAD_INPUT)
    if root.state is RootState.ACTIVE:
        raise Failed(f"root {_short(root)} signs: without it nothing can", exit_code=BAD_INPUT)
    linked = [
        Waiting(cluster=cluster.name, control_plane="", proxy=f"Secret {name}", why="its credentials are of this root")
        for cluster in clusters
        for name in cluster.remote_secrets_with(root.fingerprint)
    ]
    ready = await _gate(
        clusters, lambda found: [*linked, *rotation.still_in_use(found, root.fingerprint)], seconds, force=force
    )
    for cluster in ready:
        if root.fingerprint in cluster.roots:
            await _distrust(cluster, root.fingerprint, ready)
            await cluster.note({root.fingerprint: RootState.REVOKED}, datetime.now(UTC))
        if cluster.root_of(PREVIOUS) == root.fingerprint:
            await cluster.forget(PREVIOUS)
    return await wait(ready, lambda found: rotation.not_revoked(found, root.fingerprint), seconds)


async def evict(
    clusters: list[Cluster], evicted: str, seconds: int, *, has_context: bool, force: bool
) -> list[Cluster]:
    """Another root for all clusters but one, which nobody believes any longer; and an end to what it has opened before.

    A repetition goes on with the root that was made for this, as far as it has come.
    """
    begun = {cluster.root_without(evicted) for cluster in clusters} - {""}
    if not (has_context or begun or any(cluster.linked(evicted) for cluster in clusters)):
        raise Failed(f"no context and no remote secret is named {evicted}: nothing was done", exit_code=BAD_INPUT)
    patiently = partial(_wait_patiently, seconds=seconds, force=force)
    for cluster in clusters:
        for name in await cluster.unlink(evicted):
            click.echo(f"{cluster.name}: {evicted} is taken out of remote secret {name}", err=True)
    clusters = await renewed(clusters)
    new = next((root for root in begun if all(_has(cluster, root) for cluster in clusters)), "")
    if not new:
        new = await _prepare_without(clusters, evicted)
    clusters = await patiently(clusters, lambda found: rotation.not_prepared(found, new))
    await _switch(clusters, new)
    clusters = await patiently(clusters, lambda found: rotation.not_active(found, new))
    old = {root for cluster in clusters for root in cluster.roots if root != new}
    left = [each for cluster in clusters for each in cluster.authorities_under({new})]
    for cluster in clusters:
        await cluster.note({root: RootState.TAINTED for root in cluster.roots if root != new}, datetime.now(UTC))
    clusters = await patiently(clusters, lambda found: [w for root in old for w in rotation.still_in_use(found, root)])
    for cluster in clusters:
        lists, _ = x509.split_revocations(cluster.authority.crl_pem, left)
        await cluster.trust_roots(cluster.roots[new], lists)
        await cluster.note(dict.fromkeys(old, RootState.REVOKED), datetime.now(UTC))
        await cluster.forget(PREVIOUS)
    clusters = await patiently(clusters, lambda found: [w for root in old for w in rotation.not_revoked(found, root)])
    click.echo(f"nobody trusts {evicted} any longer: its new connections are refused", err=True)
    for cluster in clusters:
        await cluster.cut(datetime.now(UTC))
    return await patiently(clusters, lambda found: list(rotation.behind(found)))


def _has(cluster: Cluster, root: str) -> bool:
    return root in (cluster.root_of(PREPARED), cluster.trust.active)


async def _prepare_without(clusters: list[Cluster], evicted: str) -> str:
    """A new root of which the evicted cluster has no authority. What was prepared before has one there, too."""
    if any(c.root_of(PREPARED) and c.root_of(PREPARED) in {each.trust.active for each in clusters} for c in clusters):
        raise Failed(
            f"a prepared root signs in some clusters already: finish that before, with `isthmus trust activate --context` of "
            f"{','.join(cluster.name for cluster in clusters)}",
            exit_code=BAD_INPUT,
        )
    await _take_back(clusters)
    new = await prepare(await renewed(clusters), None)
    for cluster in clusters:
        await cluster.leave_behind(evicted, new)
    return new


# Waiting.


async def _gate(clusters: list[Cluster], missing: Condition, seconds: int, *, force: bool) -> list[Cluster]:
    """The clusters as they are when nothing is missing any longer. By force at once, with what is missing said aloud."""
    if not force:
        return await wait(clusters, missing, seconds)
    found = await asked(clusters)
    left = missing([cluster.trust for cluster in found])
    if left:
        click.secho(
            f"BY FORCE, although {len(left)} are not ready: their connections WILL break", fg="red", bold=True, err=True
        )
        for each in left:
            click.echo(f"  {each}", err=True)
    return found


async def _wait_patiently(clusters: list[Cluster], missing: Condition, *, seconds: int, force: bool) -> list[Cluster]:
    """Until the time is over; then, by force, whoever is not ready is left behind."""
    try:
        return await wait(clusters, missing, seconds)
    except Failed:
        if not force:
            raise
        return await _gate(clusters, missing, seconds, force=True)


async def wait(clusters: list[Cluster], missing: Condition, seconds: int) -> list[Cluster]:
    """Until nothing is missing; what is, is told whenever it is something else. Raises Failed when the time is over."""
    loop = asyncio.get_running_loop()
    deadline, told = loop.time() + seconds, ""
    while True:
        clusters = await asked(clusters)
        left = missing([cluster.trust for cluster in clusters])
        if not left:
            return clusters
        text = _said(left)
        if text != told:
            click.echo(f"waiting for {text}", err=True)
            told = text
        if loop.time() > deadline:
            _give_up(left, seconds)
        await asyncio.sleep(_PAUSE_SECONDS)


def _give_up(left: Sequence[Waiting], seconds: int) -> NoReturn:
    lines = [f"not ready in {seconds} s, and nothing further was done. It waits for:", *(f"  {each}" for each in left)]
    raise Failed(*lines, "Repeat the command when that is mended.", exit_code=TIMED_OUT)


def _said(left: Sequence[Waiting]) -> str:
    more = f"; and {len(left) - _NAMED_MAX} more" if len(left) > _NAMED_MAX else ""
    return "; ".join(str(each) for each in left[:_NAMED_MAX]) + more


# Which root.


def _chosen(clusters: Sequence[Cluster], named: str, usual: Sequence[RootState]) -> Root:
    """The root that is named by the beginning of its fingerprint; or, without a name, the only one in one of the usual states."""
    known = rotation.roots_of([cluster.trust for cluster in clusters])
    found = [root for root in known if root.fingerprint.startswith(named.lower()) and (named or root.state in usual)]
    if len(found) == 1:
        return found[0]
    there = "; ".join(f"{_short(root)} ({root.state}, {root.subject})" for root in known)
    which = f"{named!r} names {'no root' if not found else 'several'}" if named else "say which root"
    raise Failed(f"{which}; there is: {there}", exit_code=BAD_INPUT)


def _short(root: Root) -> str:
    return root.fingerprint[: x509.SHORT]


def _domain(clusters: Sequence[Cluster]) -> TrustDomain:
    """Only a name in the new root's subject: the organization of what signs now."""
    return TrustDomain(x509.organization(clusters[0].authority.root) or "mesh")
