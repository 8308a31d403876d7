"""Scopes are finished one after the other: proxies of the first are told while others still settle, and nobody ever sees half of a change."""

from __future__ import annotations

import asyncio
from itertools import islice, pairwise

from served_meshes import call_of, claims_of, imported, served
from small_meshes import Mesh, of_service

from isthmus.assurance.scenario import scenario_of
from isthmus.controlplane import delivery as delivering
from isthmus.discovery.view import view_for
from isthmus.envoy.compile import compile_outbound, compile_view
from isthmus.envoy.resources import CLUSTER, ROUTES
from isthmus.model.names import ClusterId

NEW = "outbound|80||s99.shop.svc.cluster.local"


def name_of(proxy) -> str:
    return f"{proxy.id.split('~')[2]} in {proxy.cluster}"


def calls_new(mesh: Mesh, proxy) -> tuple[bool, bool]:
    """Whether the proxy has the new service's upstream, and a route to it."""
    found = mesh.kept.resources(proxy)
    return NEW in found.of_type(CLUSTER), NEW.encode() in found.of_type(ROUTES)["80"].body


def test_each_scope_is_told_as_soon_as_it_is_finished_and_all_at_once():
    mesh = Mesh(6)
    mesh.put(0, *of_service(0, 99, "shop"))
    mesh.kept.learn(scenario_of(mesh.document).snapshot())

    transcript = []
    for _ in mesh.kept.settling():
        transcript += [(name_of(proxy), calls_new(mesh, proxy)) for proxy in mesh.kept.changed()]
        others = [proxy for proxy in mesh.proxies if name_of(proxy) not in dict(transcript)]
        assert all(calls_new(mesh, proxy) == (False, False) for proxy in others)
        transcript.append(("others run", ()))
    transcript += [(name_of(proxy), calls_new(mesh, proxy)) for proxy in mesh.kept.changed()]

    told = [line for line in transcript if line[0] != "others run"]
    assert sorted(told) == sorted((name_of(proxy), (True, True)) for proxy in mesh.proxies)
    between = [transcript[transcript.index(one) : transcript.index(next_one)] for one, next_one in pairwise(told)]
    assert all(("others run", ()) in lines for lines in between)


def test_a_newer_snapshot_in_the_middle_is_what_those_who_are_not_finished_go_on_with():
    for interrupted_after in range(40):
        mesh = Mesh(6)
        mesh.put(0, *of_service(0, 99, "shop"))
        mesh.kept.learn(scenario_of(mesh.document).snapshot())
        mesh.put(1, *of_service(1, 98, "till"))
        newer = scenario_of(mesh.document).snapshot()

        for count, _ in enumerate(mesh.kept.settling()):
            if count == interrupted_after:
                mesh.kept.learn(newer)
            for proxy in mesh.kept.changed():
                has_upstream, has_route = calls_new(mesh, proxy)
                assert has_upstream == has_route

        for proxy in mesh.proxies:
            view = view_for(proxy, mesh.kept.snapshot)
            wanted = compile_view(view, compile_outbound(view.outbound))
            assert {kind: dict(found) for kind, found in mesh.kept.resources(proxy).by_type.items()} == {
                kind: dict(found) for kind, found in wanted.by_type.items()
            }


def test_whoever_hangs_up_while_it_is_computed_for_takes_nothing_from_others():
    """What settles is abandoned where it stands, after any number of slices; who waited begins anew."""
    for slices in range(30):
        mesh = Mesh(6)
        for proxy in mesh.proxies:
            mesh.kept.disconnect(proxy)
            mesh.kept.connect(proxy)

        for _ in islice(mesh.kept.settling(), slices):
            pass
        mesh.settle()

        assert all(mesh.kept.resources(proxy) for proxy in mesh.proxies), f"after {slices} slices"


async def test_streams_of_finished_scopes_have_their_news_while_others_are_computed(monkeypatch):
    monkeypatch.setattr(delivering, "_TURN_SECONDS", 0.0)
    mesh = Mesh(6)
    world, delivery = served(mesh)
    transcript: list[str] = []
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(delivery.run()), tasks.create_task(others_run(transcript))]
        for proxy in mesh.proxies:
            feed = await delivery.admit(claims_of(proxy), call_of(proxy))
            feed.taken()
            feed.listen(lambda feed=feed, proxy=proxy: (transcript.append(name_of(proxy)), feed.taken()))
        transcript.clear()
        mesh.put(0, *of_service(0, 99, "shop"))
        world.put(ClusterId("east"), imported(mesh.clusters[0]["objects"]))
        await delivery.after_round()
        for task in running:
            task.cancel()

    told = [at for at, line in enumerate(transcript) if line != "others run"]
    assert sorted(transcript[at] for at in told) == sorted(map(name_of, mesh.proxies))
    assert all("others run" in transcript[one:next_one] for one, next_one in pairwise(told))


async def others_run(transcript: list[str]) -> None:
    while True:
        transcript.append("others run")
        await asyncio.sleep(0)
