"""The state-of-the-world stream, as transcripts (the notation is conftest's)."""

from __future__ import annotations

from envoy.service.discovery.v3 import discovery_pb2

from isthmus.envoy.resources import CLUSTER, ResourceSet


def test_a_client_that_names_nothing_gets_every_cluster_each_time(full_goes):
    """A response about clusters or listeners is the whole truth: what is not in it is gone."""
    full_goes("""
        new CDS a=1 b=1
        > CDS
        < CDS 1: a=1 b=1
        > CDS ack 1
        new CDS a=2 b=1
        < CDS 2: a=2 b=1
        > CDS ack 2
        new CDS b=1
        < CDS 3: b=1
        > CDS ack 3
        new CDS b=1
    """)


def test_a_wildcard_with_nothing_to_give_is_answered_with_nothing(full_goes):
    full_goes("""
        new CDS
        > CDS
        < CDS 1:
    """)


def test_endpoints_and_routes_are_sent_as_they_change(full_goes):
    full_goes("""
        new EDS a=1 b=1 | RDS r=1
        > EDS a b
        < EDS 1: a=1 b=1
        > EDS ack 1 a b
        > RDS r
        < RDS 2: r=1
        > RDS ack 2 r
        new EDS a=1 b=2 | RDS r=1
        < EDS 3: b=2
    """)


def test_names_added_later_are_sent_alone(full_goes):
    full_goes("""
        new EDS a=1 b=1
        > EDS a
        < EDS 1: a=1
        > EDS ack 1 a
        > EDS ack 1 a b
        < EDS 2: b=1
    """)


def test_names_left_out_are_heard_of_no_more_until_they_are_asked_for_again(full_goes):
    full_goes("""
        new EDS a=1 b=1
        > EDS a b
        < EDS 1: a=1 b=1
        > EDS ack 1 b
        new EDS a=2 b=2
        < EDS 2: b=2
        > EDS ack 2 a b
        < EDS 3: a=2
    """)


def test_a_name_that_does_not_exist_is_answered_with_an_empty_resource(full_goes):
    """There is no other way to tell such a client; Envoy would wait 15 s for nothing."""
    full_goes("""
        new EDS a=1
        > EDS a missing
        < EDS 1: a=1 missing=
        > EDS ack 1 a missing
        new EDS a=1 missing=1
        < EDS 2: missing=1
    """)


def test_endpoints_that_are_gone_are_replaced_by_none(full_goes):
    full_goes("""
        new EDS a=1 b=1
        > EDS a b
        < EDS 1: a=1 b=1
        > EDS ack 1 a b
        new EDS b=1
        < EDS 2: a=
    """)


def test_what_was_refused_is_not_sent_again_until_something_is_different(full_goes):
    full_goes("""
        new CDS a=1
        > CDS
        < CDS 1: a=1
        > CDS nack 1 "a: no such filter"
        new CDS a=1
        new CDS a=2
        < CDS 2: a=2
    """)


def test_while_an_answer_is_awaited_changes_merge_and_the_newest_wins(full_goes):
    full_goes("""
        new CDS a=1
        > CDS
        < CDS 1: a=1
        new CDS a=2
        new CDS a=3 b=1
        > CDS ack 1
        < CDS 2: a=3 b=1
    """)


def test_a_request_with_a_nonce_that_is_not_the_newest_is_stale_and_ignored(full_goes):
    full_goes("""
        new EDS a=1 b=1
        > EDS a
        < EDS 1: a=1
        > EDS ack 1 a
        > EDS ack 77 a b
        new EDS a=2 b=1
        < EDS 2: a=2
        > EDS ack 1 a b
        > EDS ack 2 a b
        < EDS 3: b=1
    """)


def test_a_client_that_reconnects_with_the_nonce_of_another_stream_gets_everything(full_goes):
    full_goes("""
        new CDS a=1
        > CDS ack 41
        < CDS 1: a=1
    """)


def test_a_request_without_a_nonce_starts_over(full_goes):
    full_goes("""
        new CDS a=1
        > CDS
        < CDS 1: a=1
        > CDS ack 1
        > CDS
        < CDS 2: a=1
    """)


def test_listeners_wait_for_clusters_and_the_removal_of_clusters_waits_for_listeners(full_goes):
    """Until then the cluster that goes is sent along: left out, it would be removed."""
    full_goes("""
        new CDS a=1 b=1 | LDS l=1
        > CDS
        < CDS 1: a=1 b=1
        > LDS
        > CDS ack 1
        < LDS 2: l=1
        > LDS ack 2
        new CDS a=2 | LDS l=2
        < CDS 3: a=2 b=1
        > CDS ack 3
        < LDS 4: l=2
        > LDS ack 4
        < CDS 5: a=2
    """)


def test_a_changed_cluster_is_followed_by_its_endpoints_again(full_goes):
    full_goes("""
        new CDS a=1 b=1 | EDS a=1 b=1
        > CDS
        < CDS 1: a=1 b=1
        > CDS ack 1
        > EDS a b
        < EDS 2: a=1 b=1
        > EDS ack 2 a b
        new CDS a=2 b=1 | EDS a=1 b=1
        < CDS 3: a=2 b=1
        < EDS 4: a=1
    """)


def test_starting_over_does_not_bring_back_what_is_gone(full_goes):
    full_goes("""
        new CDS a=1 b=1
        > CDS
        < CDS 1: a=1 b=1
        new CDS a=1
        > CDS
        > CDS ack 1
        < CDS 2: a=1
    """)


def test_clusters_that_are_asked_for_by_name_are_sent_all_together_each_time(full_goes):
    full_goes("""
        new CDS a=1 b=1 c=1
        > CDS a b missing
        < CDS 1: a=1 b=1
        > CDS ack 1 a b missing
        new CDS a=1 b=2 c=2
        < CDS 2: a=1 b=2
        > CDS ack 2 b c
        < CDS 3: b=2 c=2
    """)


def test_the_version_is_equal_for_equal_states_on_every_stream(talk):
    """A client that shows its version to another control plane shows one that means the same there."""
    versions = []
    for revision in ("1", "1", "2"):
        stream = talk(delta=False)
        stream.say("CDS")
        (response,) = stream.session.publish(ResourceSet({CLUSTER: {"a": talk.resource("a", revision)}}))
        versions.append(discovery_pb2.DiscoveryResponse.FromString(b"".join(response)).version_info)

    assert versions[0] == versions[1] != versions[2]
