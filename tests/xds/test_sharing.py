"""What a thousand streams share: a change is encoded once for all of them, and a stream that has everything costs next to nothing."""

from __future__ import annotations

import tracemalloc
from weakref import WeakSet

from envoy.service.discovery.v3 import discovery_pb2

from isthmus.envoy.resources import CLUSTER, ENDPOINTS, ROUTES, Piece, Resource, ResourceSet
from isthmus.xds.session import Session
from isthmus.xds.wire import Encoded

NAMES = [f"outbound|80||service-{number}.namespace.svc.cluster.local" for number in range(1000)]


def resource(name: str, revision: str) -> Resource:
    return Resource.of_bytes(name, f"{name} {revision}".encode() * 20)


def world(**own: Resource) -> ResourceSet:
    shared = {name: resource(name, "1") for name in NAMES}
    by_type = {CLUSTER: {**shared, **own}, ENDPOINTS: dict(shared)}
    return ResourceSet(by_type, {CLUSTER: own})


def settled(session: Session, resources: ResourceSet) -> Session:
    """A client that asks for everything, and acknowledges it."""
    session.publish(resources)
    session.receive(discovery_pb2.DeltaDiscoveryRequest(type_url=CLUSTER))
    session.receive(discovery_pb2.DeltaDiscoveryRequest(type_url=ENDPOINTS, resource_names_subscribe=NAMES))
    for type_url in (CLUSTER, ENDPOINTS):
        status = next(found for found in session.status if found.type_url == type_url)
        session.receive(discovery_pb2.DeltaDiscoveryRequest(type_url=type_url, response_nonce=status.sent_nonce))
    assert session.settled
    return session


def test_route_tables_do_not_drive_out_what_all_are_sent():
    """Forty scopes' tables are 40 MB, of which nearly all is the same megabyte."""
    common = Piece.together(Piece.of(bytes([number]) * 50_000) for number in range(20))
    encoded, clusters = Encoded(), [resource(name, "1") for name in NAMES]
    first = encoded.delta(CLUSTER, [clusters], []).message

    for number in range(40):
        encoded.delta(ROUTES, [[Resource.of_pieces("80", (common, Piece.of(bytes([number]))))]], [])

    again = encoded.delta(CLUSTER, [clusters], [], after=1_000).message
    assert again[-1] is first[-1]


def test_tables_that_were_replaced_are_let_go():
    """Each is a tenth of a megabyte that no other has."""
    encoded = Encoded()
    tables = WeakSet()
    for number in range(600):
        table = Resource.of_pieces("80", (Piece.of(number.to_bytes(2, "big") * 50_000), Piece.of(b"end")))
        tables.add(table)
        encoded.delta(ROUTES, [[table]], [])
    del table

    assert len(tables) < 200


def test_what_nobody_asks_for_any_more_is_forgotten_and_what_is_asked_for_stays():
    encoded, clusters = Encoded(), [resource(name, "1") for name in NAMES]
    table = Resource.of_pieces("80", (Piece.of(b"table" * 50_000), Piece.of(b"end")))
    gone = WeakSet([table])
    first = encoded.delta(CLUSTER, [clusters], []).message
    encoded.delta(ROUTES, [[table]], [])
    encoded.delta(ROUTES, [[resource("80", "2")]], [])
    del table

    for _ in range(3):
        encoded.forget()
        again = encoded.delta(CLUSTER, [clusters], [], after=1_000).message

    assert again[-1] is first[-1]
    assert not gone


def test_a_change_is_encoded_once_for_all_streams():
    encoded, resources = Encoded(), world()
    sessions = [settled(Session(delta=True, encoded=encoded), resources) for _ in range(100)]
    before = encoded.made

    changed = ResourceSet(
        {**resources.by_type, ENDPOINTS: {**resources.of_type(ENDPOINTS), NAMES[0]: resource(NAMES[0], "2")}}
    )
    responses = [
        session.publish(changed, {ENDPOINTS: {NAMES[0]: resources.of_type(ENDPOINTS)[NAMES[0]].version}})
        for session in sessions
    ]

    assert encoded.made == before + 1
    assert len({id(response[-1]) for (response,) in responses}) == 1


def test_what_one_stream_was_told_counts_for_no_other_that_has_something_else():
    """Scopes have changes in common and are finished one after the other: at this moment the first is a step ahead."""
    encoded, resources = Encoded(), world()
    ahead, behind = (settled(Session(delta=True, encoded=encoded), resources) for _ in range(2))
    changes = {ENDPOINTS: {NAMES[0]: resources.of_type(ENDPOINTS)[NAMES[0]].version}}

    def at(revision: str) -> ResourceSet:
        new = resources.of_type(ENDPOINTS) | {NAMES[0]: resource(NAMES[0], revision)}
        return ResourceSet({**resources.by_type, ENDPOINTS: new}, resources.own, lambda: revision)

    ahead.publish(at("3"), changes)
    (response,) = behind.publish(at("2"), changes)

    (found,) = discovery_pb2.DeltaDiscoveryResponse.FromString(b"".join(response)).resources
    assert found.version == resource(NAMES[0], "2").version


def test_what_two_route_tables_have_in_common_is_in_memory_once_while_it_is_sent():
    """However many clients read slowly: what waits for them are the same bytes."""
    common = Piece.together(Piece.of(bytes([number]) * 1000) for number in range(20))
    encoded = Encoded()
    tables = [Resource.of_pieces("80", (common, Piece.of(own), Piece.of(b"end"))) for own in (b"shop", b"till")]

    messages = [encoded.delta(ROUTES, [[table]], []).message for table in tables]

    assert [sum(piece is common.body for piece in message) for message in messages] == [1, 1]
    for table, message in zip(tables, messages, strict=True):
        assert len(message) < 5
        (found,) = discovery_pb2.DeltaDiscoveryResponse.FromString(b"".join(message)).resources
        assert (found.name, found.version, found.resource.value) == ("80", table.version, table.body)
        assert found.resource.type_url == ROUTES


def test_streams_that_have_everything_are_sent_the_same_bytes_however_long_they_are_there():
    encoded, resources = Encoded(), world()
    sessions = [settled(Session(delta=True, encoded=encoded), resources) for _ in range(3)]
    sent = []
    for revision in ("2", "3"):
        was = resources.of_type(ENDPOINTS)[NAMES[0]].version
        changed = {**resources.of_type(ENDPOINTS), NAMES[0]: resource(NAMES[0], revision)}
        resources = ResourceSet({**resources.by_type, ENDPOINTS: changed})
        changes = {ENDPOINTS: {NAMES[0]: was}}
        sent.append([session.publish(resources, changes) for session in sessions])
        for session, ((response,),) in zip(sessions, sent[-1], strict=True):
            nonce = discovery_pb2.DeltaDiscoveryResponse.FromString(response).nonce
            answer = discovery_pb2.DeltaDiscoveryRequest(type_url=ENDPOINTS, response_nonce=nonce)
            assert session.acknowledged(answer.SerializeToString()) == []
        sessions.append(settled(Session(delta=True, encoded=encoded), resources))

    assert [len({response for (response,) in each}) for each in sent] == [1, 1]
    assert all(session.settled for session in sessions)


def test_only_a_plain_acknowledgement_of_what_is_under_way_is_known_by_its_bytes():
    session, resources = Session(delta=True), world()
    session.publish(resources)
    ((*parts,),) = session.receive(discovery_pb2.DeltaDiscoveryRequest(type_url=CLUSTER))
    nonce = discovery_pb2.DeltaDiscoveryResponse.FromString(b"".join(parts)).nonce
    refusal = discovery_pb2.DeltaDiscoveryRequest(type_url=CLUSTER, response_nonce=nonce)
    refusal.error_detail.message = "no"
    more = discovery_pb2.DeltaDiscoveryRequest(
        type_url=CLUSTER, response_nonce=nonce, resource_names_unsubscribe=[NAMES[0]]
    )
    other = discovery_pb2.DeltaDiscoveryRequest(type_url=CLUSTER, response_nonce=f"{nonce}0")

    assert [session.acknowledged(each.SerializeToString()) for each in (refusal, more, other)] == [None] * 3
    assert session.acknowledged(b"") is None
    assert not session.settled


def test_what_is_a_clients_own_does_not_keep_it_from_sharing_the_rest():
    encoded, shared = Encoded(), world()
    bodies = []
    for number in range(3):
        own = {f"inbound|{number}": resource(f"inbound|{number}", "1")}
        resources = ResourceSet({CLUSTER: {**shared.of_type(CLUSTER), **own}}, {CLUSTER: own})
        session = Session(delta=True, encoded=encoded)
        session.publish(resources)
        (response,) = session.receive(discovery_pb2.DeltaDiscoveryRequest(type_url=CLUSTER))
        bodies.append(response)

    read = [discovery_pb2.DeltaDiscoveryResponse.FromString(b"".join(parts)) for parts in bodies]
    assert [len(response.resources) for response in read] == [len(NAMES) + 1] * 3
    assert len({id(parts[1]) for parts in bodies}) == 1
    assert len({parts[2] for parts in bodies}) == 3


def test_a_stream_that_has_everything_costs_a_few_kilobytes_however_much_that_is():
    encoded, resources = Encoded(), world()
    kept = [settled(Session(delta=True, encoded=encoded), resources)]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    kept += [settled(Session(delta=True, encoded=encoded), resources) for _ in range(50)]
    each = (tracemalloc.get_traced_memory()[0] - before) / 50
    tracemalloc.stop()

    assert each < 8_000


def test_what_went_back_to_what_the_client_has_is_not_sent():
    resources = world()
    session = settled(Session(delta=True), resources)
    was = resources.of_type(ENDPOINTS)[NAMES[0]].version
    session.publish(
        ResourceSet(
            {**resources.by_type, ENDPOINTS: {**resources.of_type(ENDPOINTS), NAMES[1]: resource(NAMES[1], "2")}}
        ),
        {ENDPOINTS: {NAMES[1]: was}},
    )
    other = ResourceSet(
        {**resources.by_type, ENDPOINTS: {**resources.of_type(ENDPOINTS), NAMES[0]: resource(NAMES[0], "2")}}
    )
    under_way = session.publish(other, {ENDPOINTS: {NAMES[0]: was}})
    back = session.publish(resources, {ENDPOINTS: {NAMES[0]: other.of_type(ENDPOINTS)[NAMES[0]].version}})
    status = next(found for found in session.status if found.type_url == ENDPOINTS)
    after = session.receive(discovery_pb2.DeltaDiscoveryRequest(type_url=ENDPOINTS, response_nonce=status.sent_nonce))

    assert under_way == back == []
    assert [name for response in after for name in NAMES[:1] if name.encode() + b" 1" in b"".join(response)] == []
