"""A root's life as the objects of all clusters tell it, and what each step waits for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from isthmus.model.identity import TrustDomain
from isthmus.model.trust import OwnTrust
from isthmus.trust import rotation, x509
from isthmus.trust.rotation import Behind, ClusterTrust, Record, Report, RootState

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def root() -> tuple[str, str]:
    made = x509.new_root(TrustDomain.parse("cluster.local"), NOW, timedelta(days=1)).certificate
    return x509.fingerprint(made), x509.certificate_pem(made)


OLD, OLD_PEM = root()
NEW, NEW_PEM = root()
BOTH = {OLD: OLD_PEM, NEW: NEW_PEM}


def report(signs: str = OLD, shows: str = "", asked: OwnTrust | None = None, **more) -> Report:
    trust = asked or OwnTrust(roots=tuple(sorted(BOTH)), proved=(NEW,))
    return Report(
        question="q",
        signs_under=signs,
        shows=shows or signs,
        roots=more.pop("roots", tuple(sorted(BOTH))),
        prepared=more.pop("prepared", NEW),
        asked=trust,
        proxies=3,
        **more,
    )


def cluster(name: str = "east", active: str = OLD, roots=None, **more) -> ClusterTrust:
    found = {"cp": report()} if "reports" not in more else more.pop("reports")
    return ClusterTrust(name=name, roots=BOTH if roots is None else roots, active=active, reports=found, **more)


def states(*clusters: ClusterTrust) -> dict[str, RootState]:
    return {found.fingerprint: found.state for found in rotation.roots_of(clusters)}


def noted(state: RootState, root: str = OLD) -> dict[str, Record]:
    return {root: Record(state=state, since=NOW, subject="CN=it")}


@pytest.mark.parametrize(
    ("found", "old", "new"),
    [
        (cluster(), RootState.ACTIVE, RootState.TRUSTED),
        (cluster(records=noted(RootState.PREPARED, NEW)), RootState.ACTIVE, RootState.PREPARED),
        (cluster(active=NEW, records=noted(RootState.ACTIVE)), RootState.RETIRING, RootState.ACTIVE),
        (cluster(active=NEW, records=noted(RootState.TAINTED)), RootState.TAINTED, RootState.ACTIVE),
        (
            cluster(active=NEW, roots={NEW: NEW_PEM}, records=noted(RootState.TAINTED)),
            RootState.REVOKED,
            RootState.ACTIVE,
        ),
        (cluster(records=noted(RootState.TAINTED)), RootState.ACTIVE, RootState.TRUSTED),
        (cluster(active=NEW, records=noted(RootState.REVOKED)), RootState.TRUSTED, RootState.ACTIVE),
    ],
)
def test_what_is_the_case_comes_before_what_is_written_down(found, old, new):
    assert states(found) == {OLD: old, NEW: new}


def test_a_root_that_signs_in_one_cluster_and_not_yet_in_another_is_active():
    found = rotation.roots_of([cluster(active=NEW), cluster("west")])

    assert {(each.fingerprint, each.state, each.signs_in) for each in found} == {
        (NEW, RootState.ACTIVE, ("east",)),
        (OLD, RootState.ACTIVE, ("west",)),
    }


def test_nothing_is_waited_for_when_everybody_has_let_in_who_shows_the_new_root():
    assert rotation.not_prepared([cluster(), cluster("west")], NEW) == []


@pytest.mark.parametrize(
    ("reports", "why"),
    [
        ({}, "no control plane runs there"),
        ({"cp": None}, "the control plane has not answered"),
        ({"cp": report(refusal="torn")}, "refused: torn"),
        ({"cp": report(roots=(OLD,))}, "the control plane has not seen the new root"),
        ({"cp": report(prepared="")}, "the control plane has not seen the new root"),
        ({"cp": report(asked=OwnTrust(roots=(OLD, NEW)))}, "the control plane has not seen the new root"),
        (
            {"cp": report(behind=(Behind(proxy="a.b", cluster="west", why="no handshake"),), behind_total=1)},
            "no handshake",
        ),
    ],
)
def test_who_keeps_a_root_from_being_active_is_named_with_the_reason(reports, why):
    waiting = rotation.not_prepared([cluster(), cluster("north", reports=reports)], NEW)

    assert [each.why for each in waiting] == [why]
    assert str(waiting[0]).endswith(why)


def test_proxies_that_are_too_many_to_be_named_are_counted():
    some = (Behind(proxy="a.b", cluster="west", why="late"),)
    waiting = rotation.not_prepared([cluster(reports={"cp": report(behind=some, behind_total=700)})], NEW)

    assert [each.proxy for each in waiting] == ["a.b", "699 more proxies"]


def test_a_root_is_in_use_while_a_control_plane_shows_it_or_has_not_heard_that_it_is_tainted():
    tainted = OwnTrust(roots=tuple(sorted(BOTH)), tainted=(OLD,))

    def why(found: Report) -> list[str]:
        return [each.why for each in rotation.still_in_use([cluster(active=NEW, reports={"cp": found})], OLD)]

    assert why(report(NEW, asked=tainted)) == []
    assert why(report(NEW, shows=OLD, asked=tainted)) == ["the control plane itself uses the root"]
    assert why(report(NEW)) == ["the control plane has not tainted the root"]


def test_what_signs_is_never_tainted():
    """Every proxy would renew its certificate for ever."""
    records = noted(RootState.TAINTED)

    assert rotation.tainted(records, BOTH, active=OLD) == ()
    assert rotation.tainted(records, BOTH, active=NEW) == (OLD,)
    assert rotation.tainted(records, {NEW: NEW_PEM}, active=NEW) == (), "nobody trusts it: nothing is left to be done"


def test_what_cannot_be_read_is_said():
    with pytest.raises(ValueError, match="cannot be read"):
        rotation.records_of({rotation.ROOTS: "{"})
