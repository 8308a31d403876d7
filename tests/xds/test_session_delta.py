"""The delta stream, as transcripts (the notation is conftest's)."""

from __future__ import annotations


def test_a_client_that_names_nothing_gets_every_cluster_and_then_only_what_changes(delta_goes):
    delta_goes("""
        new CDS a=1 b=1
        > CDS
        < CDS 1: a=1 b=1
        > CDS ack 1
        new CDS a=2 b=1 c=1
        < CDS 2: a=2 c=1
        > CDS ack 2
        new CDS a=2 b=1 c=1
    """)


def test_who_subscribes_before_there_is_anything_is_answered_when_there_is(delta_goes):
    delta_goes("""
        > CDS
        > EDS +a
        new CDS a=1 | EDS a=1
        < CDS 1: a=1
        < EDS 2: a=1
    """)


def test_a_wildcard_with_nothing_to_give_is_answered_with_nothing(delta_goes):
    """Envoy does not start before it has an answer about clusters and listeners, if an empty one."""
    delta_goes("""
        new CDS
        > CDS
        < CDS 1:
        > CDS ack 1
        > LDS
        < LDS 2:
    """)


def test_an_explicit_star_means_everything_too(delta_goes):
    delta_goes("""
        new EDS a=1 b=1
        > EDS +*
        < EDS 1: a=1 b=1
    """)


def test_only_what_was_named_is_sent(delta_goes):
    delta_goes("""
        new EDS a=1 b=1 c=1
        > EDS +a +c
        < EDS 1: a=1 c=1
        > EDS ack 1
        new EDS a=1 b=2 c=2
        < EDS 2: c=2
    """)


def test_names_added_later_are_sent_alone(delta_goes):
    delta_goes("""
        new EDS a=1 b=1
        > EDS +a
        < EDS 1: a=1
        > EDS ack 1 +b
        < EDS 2: b=1
    """)


def test_a_name_asked_for_again_is_answered_again(delta_goes):
    delta_goes("""
        new EDS a=1 b=1
        > EDS +a +b
        < EDS 1: a=1 b=1
        > EDS ack 1
        > EDS +a
        < EDS 2: a=1
    """)


def test_a_name_that_was_given_up_is_heard_of_no_more_until_it_is_asked_for_again(delta_goes):
    delta_goes("""
        new EDS a=1 b=1
        > EDS +a +b
        < EDS 1: a=1 b=1
        > EDS ack 1
        > EDS -a
        new EDS a=2 b=2
        < EDS 2: b=2
        > EDS ack 2
        > EDS +a
        < EDS 3: a=2
    """)


def test_a_name_that_does_not_exist_is_answered_with_its_absence_once(delta_goes):
    delta_goes("""
        new EDS a=1
        > EDS +a +missing
        < EDS 1: a=1 -missing
        > EDS ack 1
        new EDS a=2
        < EDS 2: a=2
        > EDS ack 2
        new EDS a=2 missing=1
        < EDS 3: missing=1
    """)


def test_what_is_gone_is_removed_and_may_come_back(delta_goes):
    delta_goes("""
        new EDS a=1 b=1
        > EDS +a +b
        < EDS 1: a=1 b=1
        > EDS ack 1
        new EDS b=1
        < EDS 2: -a
        > EDS ack 2
        new EDS a=1 b=1
        < EDS 3: a=1
    """)


def test_while_an_answer_is_awaited_changes_merge_and_the_newest_wins(delta_goes):
    delta_goes("""
        new EDS a=1
        > EDS +a
        < EDS 1: a=1
        new EDS a=2
        new EDS a=3
        new EDS a=4
        > EDS ack 1
        < EDS 2: a=4
    """)


def test_a_change_that_was_taken_back_meanwhile_is_not_sent(delta_goes):
    delta_goes("""
        new EDS a=1
        > EDS +a
        < EDS 1: a=1
        new EDS a=2
        new EDS a=1
        > EDS ack 1
    """)


def test_types_do_not_wait_for_one_another_except_where_they_must(delta_goes):
    delta_goes("""
        new EDS a=1 | SDS s=1
        > EDS +a
        < EDS 1: a=1
        > SDS +s
        < SDS 2: s=1
        new EDS a=1 | SDS s=2
        > SDS ack 2
        < SDS 3: s=2
    """)


def test_an_unknown_nonce_acknowledges_nothing(delta_goes):
    delta_goes("""
        new EDS a=1
        > EDS +a
        < EDS 1: a=1
        new EDS a=2
        > EDS ack 77
        > EDS ack 1
        < EDS 2: a=2
    """)


def test_the_answer_to_an_older_response_says_nothing_about_the_newest(delta_goes):
    delta_goes("""
        new EDS a=1
        > EDS +a
        < EDS 1: a=1
        > EDS ack 1
        new EDS a=2
        < EDS 2: a=2
        new EDS a=3
        > EDS ack 1
        > EDS ack 2
        < EDS 3: a=3
    """)


def test_what_was_refused_is_not_sent_again_until_it_is_different(delta_goes):
    delta_goes("""
        new CDS a=1 b=1
        > CDS
        < CDS 1: a=1 b=1
        > CDS nack 1 "a: no such filter"
        new CDS a=1 b=2
        < CDS 2: b=2
        > CDS ack 2
        new CDS a=2 b=2
        < CDS 3: a=2
    """)


def test_a_client_that_reconnects_is_sent_only_what_it_does_not_have(delta_goes):
    delta_goes("""
        new CDS a=1 b=2 c=1
        > CDS has a=1 has b=1
        < CDS 1: b=2 c=1
    """)


def test_a_client_that_reconnects_with_everything_is_sent_no_resource(delta_goes):
    delta_goes("""
        new CDS a=1 b=1 | EDS a=1 b=1
        > CDS has a=1 has b=1
        < CDS 1:
        > EDS +a +b has a=1 has b=1
    """)


def test_a_client_that_reconnects_learns_what_went_meanwhile(delta_goes):
    delta_goes("""
        new CDS a=1 | EDS a=1
        > CDS has a=1 has gone=1
        < CDS 1: -gone
        > EDS +a +gone has a=1 has gone=1
        < EDS 2: -gone
    """)


def test_clusters_come_before_what_names_them(delta_goes):
    """Listeners and routes wait for the answer to the clusters; endpoints and secrets do not."""
    delta_goes("""
        new CDS a=1 | EDS a=1 | LDS l=1 | RDS r=1 | SDS s=1
        > CDS
        < CDS 1: a=1
        > LDS
        > RDS +r
        > EDS +a
        < EDS 2: a=1
        > SDS +s
        < SDS 3: s=1
        > CDS ack 1
        < LDS 4: l=1
        < RDS 5: r=1
    """)


def test_a_cluster_goes_only_after_the_listeners_and_routes_that_may_name_it_were_replaced(delta_goes):
    delta_goes("""
        new CDS a=1 b=1 | LDS l=1 | RDS r=1
        > CDS
        < CDS 1: a=1 b=1
        > CDS ack 1
        > LDS
        < LDS 2: l=1
        > LDS ack 2
        > RDS +r
        < RDS 3: r=1
        > RDS ack 3
        new CDS a=1 | LDS l=2 | RDS r=2
        < LDS 4: l=2
        < RDS 5: r=2
        > LDS ack 4
        > RDS ack 5
        < CDS 6: -b
    """)


def test_a_changed_cluster_is_followed_by_its_endpoints_again(delta_goes):
    """Envoy waits for them, even for those that it has."""
    delta_goes("""
        new CDS a=1 b=1 | EDS a=1 b=1
        > CDS
        < CDS 1: a=1 b=1
        > CDS ack 1
        > EDS +a +b
        < EDS 2: a=1 b=1
        > EDS ack 2
        new CDS a=2 b=1 | EDS a=1 b=1
        < CDS 3: a=2
        < EDS 4: a=1
    """)


def test_endpoints_of_a_changed_cluster_are_sent_even_if_the_client_reported_them_on_reconnecting(delta_goes):
    delta_goes("""
        new CDS a=2 | EDS a=1
        > CDS has a=1
        < CDS 1: a=2
        > EDS +a has a=1
        < EDS 2: a=1
    """)


def test_the_status_tells_what_each_type_has_answered(talk):
    stream = talk(delta=True)
    stream.publish("CDS a=1 b=1 | EDS a=1")

    stream.say("CDS")
    stream.say("EDS +a +missing")
    before = stream.session.settled
    stream.say('CDS nack 1 "a: no such filter"')
    stream.say("EDS ack 2")
    clusters, endpoints = stream.session.status

    assert not before
    assert stream.session.settled
    assert (clusters.subscribed, clusters.settled, clusters.error) == (2, True, "a: no such filter")
    assert (endpoints.subscribed, endpoints.settled, endpoints.error) == (2, True, "")


def test_a_refusal_is_remembered_until_something_is_accepted(talk):
    stream = talk(delta=True)
    stream.publish("CDS a=1")
    stream.say("CDS")
    stream.say('CDS nack 1 "no"')
    seen = [stream.session.status[0].error]

    stream.publish("CDS a=2")
    seen.append(stream.session.status[0].error)
    stream.say("CDS ack 2")
    seen.append(stream.session.status[0].error)

    assert seen == ["no", "no", ""]
