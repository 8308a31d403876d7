"""What survives: a server that is killed while it writes loses nothing that it acknowledged, and its versions only grow."""

from __future__ import annotations

import asyncio
import itertools
import signal
import sqlite3
from functools import partial

import aiohttp
import pytest

from isthmus.apiserver.persistence import Persistence, StorageFailed, Write

MAPS = "/api/v1/namespaces/default/configmaps"
MERGE = "application/merge-patch+json"
ROUNDS = 3
WRITERS = 8
ACKNOWLEDGED_BEFORE_KILL = 150

ANYTHING = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}


class Witness:
    """What clients were told: the version of each object, None where it was deleted, and the newest version of all."""

    def __init__(self):
        self.objects = {}
        self.unsure = set()
        self.going = set()
        """Of which somebody has asked to be rid: they may be gone, though a watch that was cut off has not said so."""
        self.newest = 0
        self.count = 0
        self.enough = asyncio.Event()
        self.over = False

    def told(self, name, version, newest):
        self.objects[name] = version
        self.unsure.discard(name)
        self.newest = max(self.newest, newest)
        self.count += 1
        if self.count >= ACKNOWLEDGED_BEFORE_KILL:
            self.enough.set()


async def write_until_killed(api, witness, prefix):
    """Creates, changes and deletes objects of its own; what was under way at the end may have happened or not."""
    for number in itertools.count():
        if witness.over:
            return
        name = f"{prefix}-{number}"
        try:
            witness.unsure.add(name)
            made = await api.call("POST", MAPS, {"metadata": {"name": name}})
            version = int(made.body["metadata"]["resourceVersion"])
            witness.told(name, version, version)
            witness.unsure.add(name)
            changed = await api.call("PATCH", f"{MAPS}/{name}", {"data": {"a": "b"}}, content_type=MERGE)
            version = int(changed.body["metadata"]["resourceVersion"])
            witness.told(name, version, version)
            if number % 3 == 0:
                witness.unsure.add(name)
                witness.going.add(name)
                await api.call("DELETE", f"{MAPS}/{name}")
                witness.told(name, None, version + 1)
        except aiohttp.ClientError:
            return


async def read_until_killed(api, witness, seen):
    """What a watch says has happened for good."""
    try:
        async with api.watch(MAPS, resourceVersion=str(witness.newest) if witness.newest else "") as watch:
            while (event := await watch.next()) and event["type"] != "ERROR":
                metadata = event["object"]["metadata"]
                seen[metadata["name"]] = (event["type"], int(metadata["resourceVersion"]))
    except aiohttp.ClientError:
        return


async def test_kill_9_loses_nothing_acknowledged_and_versions_never_go_back(fresh_server, connected):
    witness, newest_before = Witness(), 0
    for round_ in range(ROUNDS):
        seen = {}
        witness.count = 0
        witness.enough.clear()
        witness.over = False
        async with connected(fresh_server) as api, asyncio.TaskGroup() as group:
            witness.newest = int((await api.get(MAPS)).body["metadata"]["resourceVersion"])
            group.create_task(read_until_killed(api, witness, seen))
            for writer in range(WRITERS):
                group.create_task(write_until_killed(api, witness, f"r{round_}-w{writer}"))
            await witness.enough.wait()
            await asyncio.to_thread(fresh_server.stop, signal.SIGKILL)
            # The port stays open: a client that tries a request once more is answered by the next server.
            witness.over = True
            await asyncio.to_thread(fresh_server.start)

        async with connected(fresh_server) as api:
            listed = (await api.get(MAPS)).body
            after = await api.made(MAPS, {"metadata": {"name": f"after-{round_}"}})

        found = {item["metadata"]["name"]: int(item["metadata"]["resourceVersion"]) for item in listed["items"]}
        sure = {name: version for name, version in witness.objects.items() if name not in witness.unsure}
        assert {name: found.get(name) for name in sure} == sure
        there = {name: version for name, (type_, version) in seen.items() if type_ != "DELETED"}
        assert all(
            found.get(name, version if name in witness.going else 0) >= version for name, version in there.items()
        )
        assert not [name for name, (type_, _) in seen.items() if type_ == "DELETED" and name in found]
        newest_seen = max([witness.newest, *found.values(), *(version for _, version in seen.values())])
        assert int(listed["metadata"]["resourceVersion"]) >= newest_seen
        assert int(after["metadata"]["resourceVersion"]) > max(newest_seen, newest_before)
        newest_before = int(after["metadata"]["resourceVersion"])


async def test_everything_is_there_after_a_restart(fresh_server, connected):
    crd = {
        "metadata": {"name": "lamps.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "lamps", "kind": "Lamp"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": ANYTHING}],
        },
    }
    lamps, services = "/apis/example.com/v1/namespaces/default/lamps", "/api/v1/namespaces/default/services"
    async with connected(fresh_server) as api:
        await api.made("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)
        lamp = await api.made(lamps, {"metadata": {"name": "hall"}, "spec": {"on": True}})
        service = await api.made(services, {"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}})
        account = await api.made("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "robot"}})
        asked = await api.call("POST", "/api/v1/namespaces/default/serviceaccounts/robot/token", {})
    token = asked.body["status"]["token"]

    code = await asyncio.to_thread(fresh_server.stop)
    fresh_server.start()

    async with connected(fresh_server) as api:
        lamp_after = (await api.get(f"{lamps}/hall")).body
        review = await api.call("POST", "/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": token}})
        spec = {"ports": [{"port": 80}], "clusterIP": service["spec"]["clusterIP"]}
        taken = await api.call("POST", services, {"metadata": {"name": "b"}, "spec": spec})
    assert code == 0
    assert lamp_after == lamp
    assert review.body["status"]["user"]["uid"] == account["metadata"]["uid"]
    assert (taken.code, taken.body["reason"]) == (422, "Invalid")


async def test_a_server_whose_disk_refuses_says_so_and_stops(fresh_server, connected):
    fresh_server.let_no_file_grow_beyond(8192)

    async with connected(fresh_server) as api:
        answer = await api.call("POST", MAPS, {"metadata": {"name": "a"}})
    code = await asyncio.to_thread(fresh_server.wait)

    assert (answer.code, answer.body["kind"], answer.body["reason"]) == (500, "Status", "InternalError")
    assert code == 1
    assert "the object store cannot write" in fresh_server.log[-1]


def test_a_second_server_over_the_same_file_is_refused_and_the_first_goes_on(tmp_path):
    path = tmp_path / "objects.db"
    first = Persistence(path)

    with pytest.raises(StorageFailed, match="another server has it open"):
        Persistence(path)

    assert list(first.load()) == []
    first.close()
    Persistence(path).close()


def test_a_file_that_is_no_store_is_refused_by_name(tmp_path):
    path = tmp_path / "objects.db"
    path.write_bytes(b"something else entirely" * 100)

    with pytest.raises(StorageFailed, match=str(path)):
        Persistence(path)


def test_a_database_of_somebody_else_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "objects.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE recipes (name TEXT)")
    other.close()
    before = path.read_bytes()

    with pytest.raises(StorageFailed, match="another program's database, with tables recipes"):
        Persistence(path)

    assert path.read_bytes() == before


async def test_a_store_that_was_torn_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "objects.db"
    store = Persistence(path)
    store.start()
    for number in range(200):
        await store.write(Write(f"a|b|{number}", store.first_version + number, b"x" * 3000))
    store.close()
    torn = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(torn)

    with pytest.raises(StorageFailed, match=str(path)):
        Persistence(path)

    assert path.read_bytes() == torn


async def test_a_disk_that_is_full_is_told_and_nothing_of_the_write_is_kept(tmp_path):
    path = tmp_path / "objects.db"
    store = Persistence(path)
    store.start()
    await store.write(Write("a|b|kept", store.first_version, b"{}"))
    full = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {full}")

    with pytest.raises(StorageFailed, match="full"):
        await store.write(Write("a|b|lost", store.first_version + 1, b"x" * 100_000))
    with pytest.raises(StorageFailed, match="full"):
        await store.write(Write("a|b|later", store.first_version + 2, b"{}"))
    store.close()

    again = Persistence(path)
    assert [key for key, _, _ in again.load()] == ["a|b|kept"]
    again.close()


async def test_a_store_of_an_older_version_is_taken_over(tmp_path):
    path = tmp_path / "objects.db"
    older = sqlite3.connect(path)
    older.executescript(
        "CREATE TABLE object (key TEXT PRIMARY KEY, version INTEGER, body BLOB) WITHOUT ROWID;"
        "CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER) WITHOUT ROWID;"
        "INSERT INTO counter VALUES ('reserved', 20000);"
        "INSERT INTO object VALUES ('a|b|one', 17, x'7b7d'), ('a|b|two', 12, x'7b7d');"
    )
    older.close()

    store = Persistence(path)
    found = list(store.load())
    store.start()
    await store.write(Write("a|b|one", store.first_version, b"[]", replaces=17))
    store.close()
    again = Persistence(path)

    assert found == [("a|b|two", 12, b"{}"), ("a|b|one", 17, b"{}")]
    assert store.first_version > 20000
    assert list(again.load()) == [("a|b|two", 12, b"{}"), ("a|b|one", store.first_version, b"[]")]
    again.close()


async def test_the_log_begins_anew_while_writes_go_on_and_none_is_lost(tmp_path):
    path, log = tmp_path / "objects.db", tmp_path / "objects.db-wal"
    store = Persistence(path)
    store.start()

    async def keep_changing(name):
        before = None
        for number in range(1500):
            version = next(versions)
            await store.write(Write(f"a|b|{name}", version, b"%d" % number, before))
            before = version

    versions = itertools.count(store.first_version)
    async with asyncio.TaskGroup() as writers:
        for name in ("one", "two", "three", "four"):
            writers.create_task(keep_changing(name))
    begun_anew = int.from_bytes(log.read_bytes()[12:16])  # The file format counts it.
    store.close()
    again = Persistence(path)

    assert {key: body for key, _, body in again.load()} == {
        f"a|b|{name}": b"1499" for name in ("one", "two", "three", "four")
    }
    assert begun_anew >= 2
    again.close()


async def test_the_first_write_of_a_turn_is_durable_at_once_and_those_after_it_share_a_commit(tmp_path):
    store = Persistence(tmp_path / "objects.db")
    store.start()
    commits = []
    store._connection.set_trace_callback(lambda said: commits.append(said) if said.startswith("COMMIT") else None)
    heard = []

    futures = [
        store.write(Write(f"a|b|{number}", store.first_version + number, b"{}"), partial(heard.append, number))
        for number in range(5)
    ]
    at_once = [future.done() for future in futures]
    await asyncio.gather(*futures)

    assert at_once == [True, False, False, False, False]
    assert len(commits) == 1, "of the four; the first is a statement by itself"
    assert heard == [0, 1, 2, 3, 4], "in the order of writes"
    store.close()


async def test_whoever_writes_without_end_lets_others_have_their_turn(tmp_path):
    store = Persistence(tmp_path / "objects.db")
    store.start()
    turns = []

    async def write_on():
        for number in range(100):
            await store.write(Write(f"a|b|{number}", store.first_version + number, b"{}"))

    async def watch():
        while not writing.done():
            turns.append(1)
            await asyncio.sleep(0)

    writing = asyncio.ensure_future(write_on())
    await asyncio.gather(writing, watch())

    assert len(turns) >= 50
    store.close()


async def test_a_listener_that_fails_fails_its_own_write_alone(tmp_path):
    store = Persistence(tmp_path / "objects.db")
    store.start()

    def fail():
        raise LookupError("of this one")

    told = await asyncio.gather(
        *(
            store.write(Write(f"a|b|{n}", store.first_version + n, b"{}"), fail if n == 1 else (lambda: None))
            for n in range(3)
        ),
        return_exceptions=True,
    )

    assert [type(each) for each in told] == [type(None), LookupError, type(None)]
    store.close()


async def test_what_waits_when_the_store_is_closed_is_stored_however_much_it_is(tmp_path):
    store = Persistence(tmp_path / "objects.db")
    store.start()
    waiting = [store.write(Write(f"a|b|{number}", store.first_version + number, b"{}")) for number in range(5000)]

    store.close()

    assert all(each.done() for each in waiting)
    again = Persistence(tmp_path / "objects.db")
    assert len(list(again.load())) == 5000
    again.close()


async def test_a_name_with_a_bar_in_it_is_found_again(fresh_server, connected):
    roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
    async with connected(fresh_server) as api:
        await api.made(roles, {"metadata": {"name": "a|b"}, "rules": []})
    await asyncio.to_thread(fresh_server.stop)
    fresh_server.start()

    async with connected(fresh_server) as api:
        assert (await api.get(f"{roles}/a%7Cb")).code == 200


async def test_a_version_seen_before_it_was_durable_is_not_given_again(tmp_path):
    first = Persistence(tmp_path / "objects.db")
    first.start()
    handed_out = first.first_version + 9_999
    await first.write(Write("a|b|c", first.first_version + 5_000, b"{}"))
    first.close()

    second = Persistence(tmp_path / "objects.db")

    assert second.first_version > handed_out
    second.close()
