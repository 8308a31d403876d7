"""Routes of VirtualServices, judged by the real Envoy."""

from __future__ import annotations

import pytest
from envoy.config.route.v3 import route_pb2
from google.protobuf import json_format

from isthmus.envoy.resources import ROUTES
from isthmus.model.routing import (
    Comparison,
    Fault,
    Handling,
    HeaderChanges,
    Redirect,
    RequestMatch,
    Retries,
    Route,
    TextMatch,
)

HELLO = "outbound|5000||helloworld.sample.svc.cluster.local"
PLAIN = HeaderChanges()


def route(match=None, clusters=((HELLO, 1, PLAIN),), mirrors=(), **handling):
    return Route(
        name="r", match=match or RequestMatch(), clusters=clusters, mirrors=mirrors, handling=Handling(**handling)
    )


@pytest.fixture
def routed(mesh, accepted_by_envoy):
    """The routes of helloworld's virtual host, after Envoy has accepted all of it."""

    def build(*routes):
        plain = mesh.sample_mesh()
        upstreams = tuple(mesh.replace(each, routes=routes) if each.name == HELLO else each for each in plain.upstreams)
        resources = mesh.compiled(mesh.view(mesh.replace(plain, upstreams=upstreams)))
        accepted_by_envoy(resources)
        table = route_pb2.RouteConfiguration.FromString(resources.of_type(ROUTES)["5000"].body)
        host = next(each for each in table.virtual_hosts if each.name.startswith("helloworld."))
        return [json_format.MessageToDict(each) for each in host.routes]

    return build


def text(comparison, value=""):
    return TextMatch(Comparison(comparison), value)


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        (RequestMatch(), {"prefix": "/"}),
        (RequestMatch(uri=text("exact", "/a")), {"path": "/a"}),
        (RequestMatch(uri=text("prefix", "/a"), ignore_case=True), {"prefix": "/a", "caseSensitive": False}),
        (RequestMatch(uri=text("regex", "/a.*")), {"safeRegex": {"regex": "/a.*"}}),
        (
            RequestMatch(method=text("exact", "GET"), headers=(("x", text("present")),)),
            {
                "prefix": "/",
                "headers": [
                    {"name": ":method", "stringMatch": {"exact": "GET"}},
                    {"name": "x", "presentMatch": True},
                ],
            },
        ),
        (
            RequestMatch(query=(("q", text("prefix", "1")),)),
            {"prefix": "/", "queryParameters": [{"name": "q", "stringMatch": {"prefix": "1"}}]},
        ),
    ],
)
def test_what_matches(routed, match, expected):
    [found] = routed(route(match))

    assert found["match"] == expected


def test_weights_and_changes_of_headers(routed):
    changes = HeaderChanges(request_set=(("a", "b"),), request_add=(("c", "d"),), response_remove=("e",))

    [found] = routed(route(clusters=((HELLO, 90, PLAIN), ("outbound|5000|v2|x", 10, changes))))

    first, second = found["route"]["weightedClusters"]["clusters"]
    assert (first["weight"], second["weight"]) == (90, 10)
    assert [each["appendAction"] for each in second["requestHeadersToAdd"] if "appendAction" in each] == [
        "OVERWRITE_IF_EXISTS_OR_ADD"
    ]
    assert second["responseHeadersToRemove"] == ["e"]


def test_time_limits_retries_rewrites_and_mirrors(routed):
    [found] = routed(
        route(
            mirrors=((HELLO, 12.5),),
            timeout_seconds=3,
            retries=Retries(attempts=4, per_try_seconds=1, on="5xx"),
            rewrite_path="/b",
            rewrite_authority="h",
        )
    )

    action = found["route"]
    assert (action["timeout"], action["prefixRewrite"], action["hostRewriteLiteral"]) == ("3s", "/b", "h")
    assert (action["retryPolicy"]["numRetries"], action["retryPolicy"]["retryOn"]) == (4, "5xx")
    assert action["requestMirrorPolicies"][0]["runtimeFraction"]["defaultValue"]["numerator"] == 125_000


def test_no_attempts_means_no_retries_and_silence_the_default(routed):
    without, default = routed(
        route(RequestMatch(port=1), retries=Retries(attempts=0)), route(RequestMatch(uri=text("prefix", "/")))
    )

    assert without["route"]["retryPolicy"] == {}, "there, so that the host's does not hold"
    assert "retryPolicy" not in default["route"]


def test_redirects_direct_responses_and_faults(routed):
    redirect, response, fault = routed(
        route(RequestMatch(uri=text("exact", "/a")), redirect=Redirect(path="/b", authority="h", code=308)),
        route(RequestMatch(uri=text("exact", "/c")), response_status=418, response_body="tea"),
        route(fault=Fault(delay_percent=50, delay_seconds=2, abort_percent=0.01, abort_status=503)),
    )

    assert redirect["redirect"] == {"pathRedirect": "/b", "hostRedirect": "h", "responseCode": "PERMANENT_REDIRECT"}
    assert response["directResponse"] == {"status": 418, "body": {"inlineString": "tea"}}
    injected = fault["typedPerFilterConfig"]["envoy.filters.http.fault"]
    assert injected["abort"] == {"httpStatus": 503, "percentage": {"numerator": 100, "denominator": "MILLION"}}


def test_retries_elsewhere_or_not_near_or_far(routed):
    [far, here] = routed(
        route(
            RequestMatch(port=1),
            retries=Retries(attempts=2, on="5xx, 429,reset", back_off_seconds=0.5, farther=True),
        ),
        route(retries=Retries(attempts=2, elsewhere=False)),
    )

    policy = far["route"]["retryPolicy"]
    assert (policy["retryOn"], policy["retriableStatusCodes"]) == ("5xx,reset,retriable-status-codes", [429])
    assert policy["retryBackOff"] == {"baseInterval": "0.500s", "maxInterval": "5s"}
    assert policy["retryPriority"]["name"] == "previous_priorities"
    assert "retryHostPredicate" in policy
    assert "retryHostPredicate" not in here["route"]["retryPolicy"]


def test_hosts_bytes_and_names_for_counting(routed):
    [rewritten, answered] = routed(
        route(
            RequestMatch(uri=text("exact", "/a"), stat_prefix="a"),
            clusters=((HELLO, 1, PLAIN), (HELLO, 1, HeaderChanges(authority="w"))),
            headers=HeaderChanges(authority="h"),
        ),
        route(response_status=200, response_body=b"\x00"),
    )

    assert (rewritten["statPrefix"], rewritten["route"]["hostRewriteLiteral"]) == ("a", "h")
    assert rewritten["route"]["weightedClusters"]["clusters"][1]["hostRewriteLiteral"] == "w"
    assert answered["directResponse"]["body"] == {"inlineBytes": "AA=="}


def test_an_abort_with_a_status_of_grpc(routed):
    [found] = routed(route(fault=Fault(abort_percent=100, abort_grpc_status=14)))

    assert found["typedPerFilterConfig"]["envoy.filters.http.fault"]["abort"]["grpcStatus"] == 14
