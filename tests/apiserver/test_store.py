"""The store's laws, without HTTP: versions grow, equal writes are silent, and a watch followed to the end is a list."""

from __future__ import annotations

import random

import pytest

from isthmus.apiserver.kinds import BUILT_IN
from isthmus.apiserver.status import Refused
from isthmus.apiserver.store import Store, name_of

CONFIG_MAP = next(kind for kind in BUILT_IN if kind.name == "ConfigMap")
SECRET = next(kind for kind in BUILT_IN if kind.name == "Secret")


def obj(name, value=""):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "a"}, "data": {"v": value}}


def change(store, chance):
    """One random change; the names are few, so that everything happens."""
    name = f"n{chance.randrange(6)}"
    there = store.find(CONFIG_MAP, ("a", name)) is not None
    if not there:
        event = store.create(CONFIG_MAP, obj(name))
    elif chance.random() < 0.3:
        event = store.delete(CONFIG_MAP, ("a", name))
    else:
        event = store.update(CONFIG_MAP, obj(name, str(chance.randrange(3))), "")
    if event is not None:
        store.publish(CONFIG_MAP, event)
    return event


def followed(objects, events):
    """What a client holds that began with the objects and heard the events."""
    held = dict(objects)
    for event in events:
        if event.type == "DELETED":
            del held[name_of(event.new.obj)]
        else:
            held[name_of(event.new.obj)] = event.new.raw
    return held


@pytest.mark.parametrize("seed", range(8))
def test_a_watch_followed_to_the_end_is_a_list(seed):
    chance, store = random.Random(seed), Store()
    for _ in range(chance.randrange(30)):
        change(store, chance)
    listed = {name_of(stored.obj): stored.raw for stored in store.items(CONFIG_MAP)}
    version, heard = store.version, []
    for _ in range(chance.randrange(30)):
        change(store, chance)

    missed = store.watch(CONFIG_MAP, version, heard.append)
    for _ in range(30):
        change(store, chance)

    events = [*missed, *heard]
    versions = [event.version for event in events]
    assert versions == sorted(set(versions))
    assert all(later > version for later in versions)
    assert followed(listed, events) == {name_of(stored.obj): stored.raw for stored in store.items(CONFIG_MAP)}


def test_an_equal_update_is_no_event_and_takes_no_version():
    store = Store()
    store.publish(CONFIG_MAP, store.create(CONFIG_MAP, obj("n", "1")))
    version = store.version

    event = store.update(CONFIG_MAP, obj("n", "1"), "")

    assert (event, store.version) == (None, version)


def test_who_is_too_far_behind_has_to_list_anew_and_others_need_not():
    store = Store()
    start = store.version
    for number in range(5000):
        store.publish(CONFIG_MAP, store.create(CONFIG_MAP, obj(f"n{number}")))

    with pytest.raises(Refused) as refused:
        store.watch(CONFIG_MAP, start, lambda event: None)
    recent = store.watch(CONFIG_MAP, store.version - 4000, lambda event: None)
    other_kind = store.watch(SECRET, start, lambda event: None)

    assert (refused.value.code, refused.value.reason) == (410, "Expired")
    assert (len(recent), other_kind) == (4000, [])


def test_what_is_not_durable_yet_is_not_published():
    store = Store()
    first = store.create(CONFIG_MAP, obj("a"))
    second = store.create(CONFIG_MAP, obj("b"))

    store.publish(CONFIG_MAP, first)

    assert store.published == first.version
    assert store.version == second.version


def owned(name, number):
    """One with all that an outline tells."""
    made = obj(name, str(number))
    made["metadata"] |= {
        "uid": f"uid-{number}",
        "labels": {"number": str(number)},
        "ownerReferences": [{"uid": "owner", "kind": "Service", "blockOwnerDeletion": True}],
        "finalizers": ["example.com/wait"],
        "deletionTimestamp": "2026-01-01T00:00:00Z",
        "managedFields": [{"manager": "somebody", "fieldsV1": {"f:data": {}}}],
    }
    return made


def test_objects_that_nobody_has_looked_at_for_long_are_what_was_written():
    store, wanted = Store(), {}
    for number in range(1000):
        name = f"n{number:04}"
        version = store.create(CONFIG_MAP, owned(name, number)).version
        wanted[name] = owned(name, number)
        wanted[name]["metadata"]["resourceVersion"] = str(version)

    found = {stored.outline["metadata"]["name"]: stored for stored in store.items(CONFIG_MAP)}

    assert {name: stored.obj for name, stored in found.items()} == wanted
    assert store.update(CONFIG_MAP, owned("n0000", 0), "") is None, "equal to what it was"


def test_the_outline_of_an_object_says_of_its_metadata_what_the_object_says():
    store = Store()
    for number in range(1000):
        store.create(CONFIG_MAP, owned(f"n{number:04}", number))

    for stored in store.items(CONFIG_MAP):
        outline = stored.outline["metadata"]
        whole = stored.obj["metadata"]
        for field in ("name", "namespace", "uid", "labels", "ownerReferences", "finalizers", "deletionTimestamp"):
            assert outline[field] == whole[field]
