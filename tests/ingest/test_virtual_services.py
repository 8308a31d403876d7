"""VirtualServices as values; a rule that cannot be done as written is left out and told, the others count."""

from __future__ import annotations

import pytest

from isthmus.model.routing import Comparison, Fault, HeaderChanges, Redirect, Retries, Target, TextMatch


def read(words, *http, **spec):
    obj = words.obj("VirtualService", "v", "ns", spec={"hosts": ["s"], "http": list(http)} | spec)
    snapshot = words.snapshot(words.cluster("east", obj))
    return snapshot.virtual_services, snapshot.issues


TO = [{"destination": {"host": "s"}}]


def test_everything_that_is_done(words):
    [found], issues = read(
        words,
        {
            "match": [
                {
                    "uri": {"prefix": "/a"},
                    "ignoreUriCase": True,
                    "method": {"exact": "GET"},
                    "headers": {"x": {"regex": "y.*"}, "z": {}},
                    "queryParams": {"q": {"exact": "1"}},
                    "port": 80,
                }
            ],
            "route": [
                {"destination": {"host": "s", "subset": "v1"}, "weight": 90},
                {
                    "destination": {"host": "t.other.svc.cluster.local", "port": {"number": 81}},
                    "weight": 10,
                    "headers": {"request": {"set": {"a": "b"}}, "response": {"remove": ["c"]}},
                },
                {"destination": {"host": "nobody"}},
            ],
            "timeout": "3s",
            "retries": {"attempts": 4, "perTryTimeout": "1s", "retryOn": "5xx"},
            "rewrite": {"uri": "/b", "authority": "h"},
            "fault": {"delay": {"fixedDelay": "2s", "percentage": {"value": 0.5}}, "abort": {"httpStatus": 503}},
            "mirror": {"host": "s", "subset": "v2"},
            "mirrorPercentage": {"value": 5},
        },
        {"redirect": {"uri": "/new", "redirectCode": 302}},
    )

    assert issues == ()
    first, second = found.rules
    [match] = first.matches
    assert match.uri == TextMatch(Comparison.PREFIX, "/a")
    assert match.headers == (("x", TextMatch(Comparison.REGEX, "y.*")), ("z", TextMatch(Comparison.PRESENT)))
    assert [(target, weight) for target, weight, _ in first.targets] == [
        (Target(host="s.ns.svc.cluster.local", subset="v1"), 90),
        (Target(host="t.other.svc.cluster.local", port=81), 10),
    ]
    assert first.targets[1][2] == HeaderChanges(request_set=(("a", "b"),), response_remove=("c",))
    assert first.mirrors == ((Target(host="s.ns.svc.cluster.local", subset="v2"), 5),)
    handling = first.handling
    assert (handling.timeout_seconds, handling.rewrite_path, handling.rewrite_authority) == (3, "/b", "h")
    assert handling.retries == Retries(attempts=4, per_try_seconds=1, on="5xx")
    assert handling.fault == Fault(delay_percent=0.5, delay_seconds=2, abort_percent=100, abort_status=503)
    assert second.handling.redirect == Redirect(path="/new", code=302)


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        ({"route": TO, "match": [{"sourceLabels": {"app": "a"}}]}, "spec.http[0].match[0].sourceLabels"),
        ({"delegate": {"name": "x"}}, "spec.http[0].delegate"),
        ({"route": TO, "corsPolicy": {"allowMethods": ["GET"]}}, "spec.http[0].corsPolicy"),
        ({"route": TO, "timeout": "soon"}, "spec.http[0].timeout"),
        ({}, "spec.http[0].route"),
    ],
)
def test_a_rule_that_cannot_be_done_is_left_out_and_told(words, rule, field):
    [found], [issue] = read(words, rule, {"route": TO})

    assert len(found.rules) == 1
    assert (issue.code, issue.field) == ("ISM0402", field)


def test_one_for_gateways_alone_is_told(words):
    found, [issue] = read(words, {"route": TO}, gateways=["ingress"])

    assert found == ()
    assert issue.field == "spec.gateways"


def test_matches_for_gateways_do_not_count_in_the_mesh(words):
    [found], _ = read(words, {"route": TO, "match": [{"gateways": ["ingress"]}]}, gateways=["mesh", "ingress"])

    assert found.rules == ()
