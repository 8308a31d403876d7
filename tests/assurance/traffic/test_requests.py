"""Which virtual host and which route a request takes."""

from __future__ import annotations

import pytest

from isthmus.assurance.traffic.request import Request
from isthmus.assurance.traffic.walk import Outcome


@pytest.mark.parametrize(
    ("host", "virtual_host"),
    [
        ("a.shop.example", "exact"),
        ("A.Shop.Example:8080", "exact"),
        ("b.shop.example", "longer end"),
        ("b.example", "end"),
        ("shop.org", "beginning"),
        ("else", "rest"),
    ],
)
def test_hosts_exact_then_by_the_longest_end_then_by_the_longest_beginning(words, host, virtual_host):
    hosts = (
        words.host("rest", "*"),
        words.host("beginning", "shop.*"),
        words.host("end", "*.example"),
        words.host("longer end", "*.shop.example"),
        words.host("exact", "a.shop.example"),
    )
    manager = words.http(*hosts)
    manager["typedConfig"]["routeConfig"]["ignorePortInHostMatching"] = True

    assert words.walked(Request(port=80, host=host), words.chain("http", manager)).virtual_host == virtual_host


def test_no_host_and_no_route_are_told_apart(words):
    manager = words.http(words.host("only", "only.example", routes=(words.answering("a", path="/a"),)))

    nowhere = words.walked(Request(port=80, host="else"), words.chain("http", manager))
    unrouted = words.walked(Request(port=80, host="only.example"), words.chain("http", manager))

    assert (nowhere.outcome, nowhere.status, nowhere.virtual_host) == (Outcome.NOT_FOUND, 404, "")
    assert (unrouted.outcome, unrouted.status, unrouted.virtual_host) == (Outcome.NOT_FOUND, 404, "only")


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/exact", "exact"),
        ("/exact?x=1", "exact"),
        ("/exact/more", "rest"),
        ("/below/one", "below"),
        ("/belowother", "rest"),
        ("/Folded/x", "folded"),
        ("/v12", "regex"),
        ("/v12/x", "rest"),
        ("/a/../exact", "exact"),
        ("/files/one/end", "template"),
        ("/?debug=yes", "parameter"),
    ],
)
def test_paths(words, path, route):
    routes = (
        words.answering("exact", path="/exact"),
        words.answering("below", pathSeparatedPrefix="/below"),
        words.answering("folded", prefix="/folded", caseSensitive=False),
        words.answering("regex", safeRegex={"regex": "/v[0-9]+"}),
        words.answering("template", pathMatchPolicy={"typedConfig": {"pathTemplate": "/files/*/end"}}),
        words.answering("parameter", prefix="/", queryParameters=[{"name": "debug", "stringMatch": {"exact": "yes"}}]),
        words.answering("rest", prefix="/"),
    )
    manager = words.http(words.host("all", "*", routes=routes), normalizePath=True)

    assert words.walked(Request(port=80, path=path), words.chain("http", manager)).route == route


@pytest.mark.parametrize(
    ("matcher", "with_a", "without"),
    [
        ({"stringMatch": {"exact": "a"}}, True, False),
        ({"stringMatch": {"exact": "a"}, "invertMatch": True}, False, False),
        ({"stringMatch": {"exact": "a"}, "invertMatch": True, "treatMissingHeaderAsEmpty": True}, False, True),
        ({"stringMatch": {"prefix": "A", "ignoreCase": True}}, True, False),
        ({"presentMatch": True}, True, False),
        ({"presentMatch": False}, False, True),
        ({"presentMatch": True, "invertMatch": True}, False, True),
        ({"rangeMatch": {"start": "1", "end": "5"}}, False, False),
    ],
)
def test_headers(words, matcher, with_a, without):
    route = words.answering("matched", prefix="/", headers=[{"name": "X-One"} | matcher])
    chain = words.chain("http", words.http(words.host("all", "*", routes=(route,))))

    found = [
        words.walked(Request(port=80, headers=headers), chain).route == "matched" for headers in ((("x-one", "a"),), ())
    ]
    assert found == [with_a, without]
