"""VirtualServices as values; a rule that cannot be done as written is left out and told, the others count."""

from __future__ import annotations

import pytest

from isthmus.model.routing import Comparison, Fault, HeaderChanges, Redirect, Retries, Target, TextMatch, claim_named


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
            "fault": {
                "delay": {"fixedDelay": "2s", "percentage": {"value": 0.5}},
                "abort": {"httpStatus": 503, "percentage": {"value": 100}},
            },
            "mirror": {"host": "s", "subset": "v2"},
            "mirrorPercentage": {"value": 5},
        },
        {"redirect": {"uri": "/new", "redirectCode": 302}},
        {"match": [{"uri": {"prefix": "/a"}}], "redirect": {"prefixRewrite": "/b"}},
    )

    assert issues == ()
    first, second, third = found.rules
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
    assert third.handling.redirect == Redirect(prefix="/b")


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        ({"route": TO, "corsPolicy": {"maxAge": "long"}}, "spec.http[0].corsPolicy.maxAge"),
        ({"route": TO, "timeout": "soon"}, "spec.http[0].timeout"),
        ({}, "spec.http[0].route"),
    ],
)
def test_a_rule_that_cannot_be_done_is_left_out_and_told(words, rule, field):
    [found], [issue] = read(words, rule, {"route": TO})

    assert len(found.rules) == 1
    assert (issue.code, issue.field) == ("ISM0402", field)


def test_what_it_is_for(words):
    [found], _ = read(words, {"route": TO, "match": [{"gateways": ["mesh"]}]}, gateways=["own", "infra/other"])

    assert found.gateways == ("ns/own", "infra/other")
    assert [found.is_for(each) for each in ("ns/own", "mesh", "ns/other")] == [True, True, False]


def test_connections(words):
    [found], issues = read(
        words,
        tls=[{"match": [{"sniHosts": ["A.example"], "port": 443}], "route": [{"destination": {"host": "a"}}]}],
        tcp=[
            {
                "match": [{"destinationSubnets": ["10.0.0.0/8"], "sourceLabels": {"app": "a"}}],
                "route": [
                    {"destination": {"host": "a"}, "weight": 3},
                    {"destination": {"host": "b"}, "weight": 1},
                    {"destination": {"host": "c"}},
                ],
            }
        ],
    )

    assert issues == ()
    [[tls], [tcp]] = found.tls, found.tcp
    assert (tls.matches[0].sni_hosts, tls.matches[0].port) == (("a.example",), 443)
    assert [(target.host, weight) for target, weight in tls.targets] == [("a.ns.svc.cluster.local", 1)]
    assert (tcp.matches[0].subnets, tcp.matches[0].source_labels) == (("10.0.0.0/8",), (("app", "a"),))
    assert [weight for _, weight in tcp.targets] == [3, 1]


def delegated(words, rule, *below, **spec):
    root = words.obj("VirtualService", "root", "ns", spec={"hosts": ["s"], "http": [rule, {"route": TO}]})
    delegate = words.obj("VirtualService", "part", "other", spec={"http": list(below)} | spec)
    snapshot = words.snapshot(words.cluster("east", root, delegate))
    [found] = snapshot.virtual_services
    return found.rules[:-1], snapshot.issues


PART = {"delegate": {"name": "part", "namespace": "other"}, "name": "root"}


def test_a_delegate_adds_to_its_roots_matches_and_inherits_the_rest(words):
    root = PART | {"match": [{"uri": {"prefix": "/a"}, "headers": {"x": {"exact": "1"}}}], "timeout": "3s"}

    [rule], issues = delegated(
        words,
        root,
        {"name": "leaf", "match": [{"uri": {"prefix": "/a/b"}}], "route": TO, "fault": {"abort": {"httpStatus": 500}}},
    )

    assert issues == ()
    [match] = rule.matches
    assert (rule.name, match.uri, match.headers) == (
        "root-leaf",
        TextMatch(Comparison.PREFIX, "/a/b"),
        (("x", TextMatch(Comparison.EXACT, "1")),),
    )
    assert (rule.handling.timeout_seconds, rule.handling.fault.abort_status) == (3, 500)


@pytest.mark.parametrize(
    ("root", "leaf", "kept"),
    [
        ({}, {"uri": {"exact": "/x"}}, True),
        ({"uri": {"prefix": "/a"}}, {}, True),
        ({"uri": {"prefix": "/a"}}, {"uri": {"exact": "/a/b"}}, True),
        ({"uri": {"prefix": "/a"}}, {"uri": {"exact": "/b"}}, False),
        ({"uri": {"exact": "/a"}}, {"uri": {"prefix": "/a"}}, False),
        ({"uri": {"exact": "/a"}}, {"uri": {"exact": "/a"}}, True),
        ({"uri": {"regex": "/a"}}, {"uri": {"regex": "/a"}}, False),
        ({"port": 80}, {"port": 80}, True),
        ({"port": 80}, {"port": 81}, False),
        ({"headers": {"x": {"exact": "1"}}}, {"headers": {"x": {"exact": "2"}}}, False),
        ({"headers": {"x": {"exact": "1"}}}, {"headers": {"y": {"exact": "2"}}}, True),
        ({"sourceNamespace": "a"}, {"sourceNamespace": "b"}, False),
        ({"sourceLabels": {"a": "b"}}, {"sourceLabels": {"a": "c"}}, False),
    ],
)
def test_a_delegates_match_has_to_refine_one_of_its_roots(words, root, leaf, kept):
    rules, issues = delegated(words, PART | {"match": [root]}, {"match": [leaf], "route": TO})

    assert (len(rules), [issue.code for issue in issues]) == ((1, []) if kept else (0, ["ISM0405"]))


AT_GATEWAY = {"gateways": ["g"]}


def claiming(name, **match):
    return {"match": [{"headers": {f"@request.auth.claims{name}": {"exact": "a"}}} | match], "route": TO}


@pytest.mark.parametrize(
    ("name", "claim"),
    [
        (".group", ("group",)),
        (".realm.Role", ("realm", "Role")),
        ("[realm][role]", ("realm", "role")),
        ("[https://example.com/x][key]", ("https://example.com/x", "key")),
        (".[a]", ("[a]",)),
    ],
)
def test_claims_have_names_with_dots_or_in_brackets(words, name, claim):
    [found], issues = read(words, claiming(name, withoutHeaders={f"@Request.auth.claims{name}": {}}), **AT_GATEWAY)

    [match] = found.rules[0].matches
    assert issues == ()
    assert [claim_named(name) for name, _ in match.headers] == [claim]
    assert [claim_named(name) for name, _ in match.without_headers] == [claim]


@pytest.mark.parametrize(
    ("rule", "spec", "is_told"),
    [
        (claiming(".group"), {}, True),
        (claiming(".group"), {"gateways": ["g", "mesh"]}, True),
        (claiming(".group"), AT_GATEWAY, False),
        (claiming(".group", gateways=["g"]), {}, False),
        (claiming(".group", gateways=["mesh"]), AT_GATEWAY, True),
    ],
)
def test_that_sidecars_match_no_claims_is_told(words, rule, spec, is_told):
    [found], issues = read(words, rule, **spec)

    assert len(found.rules) == 1, "gateways have it"
    assert [(issue.code, issue.field) for issue in issues] == ([("ISM0402", "spec.http[0].match")] if is_told else [])


def test_claims_of_a_root_and_of_its_delegate_hold_together(words):
    root = PART | {"match": [claiming(".group", gateways=["g"])["match"][0]]}

    [rule], issues = delegated(words, root, claiming(".sub", gateways=["g"]))

    assert [claim_named(name) for name, _ in rule.matches[0].headers] == [("group",), ("sub",)]
    assert issues == ()


def test_that_sidecars_match_no_claims_of_a_delegate_is_told(words):
    _, issues = delegated(words, PART, claiming(".sub"), claiming(".sub", gateways=["g"]))

    assert [(issue.code, issue.field) for issue in issues] == [("ISM0402", "spec.http[0].delegate")]


def test_a_delegate_that_is_not_there_or_not_for_this_namespace_is_told(words):
    rules, [issue] = delegated(words, PART, {"route": TO}, exportTo=["."])

    assert rules == ()
    assert (issue.code, issue.field) == ("ISM0405", "spec.http[0].delegate")


def test_a_fault_without_a_percentage_happens_to_nobody(words):
    [found], _ = read(words, {"route": TO, "fault": {"abort": {"httpStatus": 503}, "delay": {"fixedDelay": "1s"}}})

    fault = found.rules[0].handling.fault
    assert (fault.abort_percent, fault.delay_percent) == (0, 0)


def test_an_abort_may_be_a_status_of_grpc(words):
    abort = {"grpcStatus": "UNAVAILABLE", "percentage": {"value": 10}}

    [found], issues = read(words, {"route": TO, "fault": {"abort": abort}})
    _, [issue] = read(words, {"route": TO, "fault": {"abort": {"grpcStatus": "LATE"}}})

    assert issues == ()
    assert found.rules[0].handling.fault == Fault(abort_percent=10, abort_grpc_status=14)
    assert issue.field == "spec.http[0].fault.abort.grpcStatus"


def test_a_changed_host_is_told_from_changed_headers(words):
    """Envoy would refuse the whole table of routes for a host among the headers."""
    headers = {
        "request": {"set": {"Host": "other", "x": "y"}, "remove": [":path", "z"]},
        "response": {"set": {"host": "a"}},
    }

    [found], issues = read(words, {"route": TO, "headers": headers})

    assert found.rules[0].handling.headers == HeaderChanges(
        authority="other", request_set=(("x", "y"),), request_remove=("z",)
    )
    assert [issue.field for issue in issues] == [
        "spec.http[0].headers.request.remove",
        "spec.http[0].headers.response.set",
    ]


def test_retries_in_full(words):
    said = {"attempts": 2, "backoff": "1s", "retryRemoteLocalities": True, "retryIgnorePreviousHosts": False}

    [found], _ = read(words, {"route": TO, "retries": said})

    assert found.rules[0].handling.retries == Retries(attempts=2, back_off_seconds=1, elsewhere=False, farther=True)


def test_answers_may_be_bytes(words):
    [found], _ = read(words, {"directResponse": {"status": 200, "body": {"bytes": "AAE="}}})

    assert found.rules[0].handling.response_body == b"\x00\x01"


def wide(**said):
    return {"route": TO} | said


def matching(**said):
    return {"match": [said], "route": TO}


def setting(name, value):
    return wide(headers={"request": {"set": {name: value}}})


TOO_MANY, LINES = 2**32, "a\r\nb: c"


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        *(({"route": [TO[0] | {"weight": n}, TO[0] | {"weight": 1}]}, "route.weight") for n in (-1, TOO_MANY)),
        *((wide(retries={"attempts": n}), "retries.attempts") for n in (-1, TOO_MANY)),
        *((wide(retries={"backoff": text}), "retries.backoff") for text in ("0s", "2h")),
        *(
            (wide(fault={"abort": {"percentage": {"value": n}, "httpStatus": 500}}), "fault.abort.percentage")
            for n in (-1, 101)
        ),
        *(
            (wide(fault={"abort": {"percentage": {"value": 1}, "httpStatus": n}}), "fault.abort.httpStatus")
            for n in (-1, 101, 600)
        ),
        *(
            (wide(fault={"delay": {"percentage": {"value": n}, "fixedDelay": "1s"}}), "fault.delay.percentage")
            for n in (-1, 101)
        ),
        *((wide(mirror={"host": "s"}, mirrorPercentage={"value": n}), "mirrorPercentage") for n in (-1, 101)),
        *(({"redirect": {"uri": "/a", "port": n}}, "redirect.port") for n in (-1, 65536)),
        *(
            (matching(**{group: {f"@request.auth.{what}": {"exact": "a"}}}), f"match.{group}")
            for group in ("headers", "withoutHeaders")
            for what in (
                "principal",
                "claims",
                "claims.",
                "claims.a..b",
                "claims[a",
                "claims[a]b",
                "claims[]",
                "claims-a",
                "claims]a",
                "claims[a][]",
            )
        ),
        ({"redirect": {"authority": LINES}}, "redirect.authority"),
        *(({"directResponse": {"status": n}}, "directResponse.status") for n in (-1, 0, 101, 600)),
        ({"directResponse": {"status": 200, "body": {"string": "x" * (2**20 + 1)}}}, "directResponse.body"),
        *(
            (matching(**{name: {"regex": text}}), f"match.{name}")
            for name in ("uri", "method", "scheme", "authority")
            for text in ("(", "", "(?=a)", "a{1001}", "x" * 1025)
        ),
        (matching(headers={"a": {"regex": "("}}), "match.headers.a"),
        (matching(withoutHeaders={"a b": {"exact": "c"}}), "match.withoutHeaders"),
        *((matching(queryParams={name: {"exact": "a"}}), "match.queryParams") for name in ("", "x" * 1025)),
        (wide(corsPolicy={"allowOrigins": [{"regex": "("}]}), "corsPolicy.allowOrigins"),
        (wide(corsPolicy={"allowOrigins": [{}]}), "corsPolicy.allowOrigins"),
        ({"route": [*TO, *TO]}, "route"),
        (wide(corsPolicy={"allowMethods": [LINES]}), "corsPolicy.allowMethods"),
        (wide(rewrite={"uri": LINES}), "rewrite.uri"),
        (wide(rewrite={"authority": LINES}), "rewrite.authority"),
        (wide(rewrite={"uriRegexRewrite": {"match": "(", "rewrite": "a"}}), "rewrite.uriRegexRewrite.match"),
        (wide(rewrite={"uriRegexRewrite": {"match": "a", "rewrite": LINES}}), "rewrite.uriRegexRewrite.rewrite"),
        *(
            (setting("a", text), "headers.request.set.a")
            for text in (LINES, "100%", "%NOPE%", "%REQ%", "%PROTOCOL(a)%")
        ),
        *((setting(name, "a"), "headers.request.set") for name in ("", "a b", LINES)),
        (wide(headers={"response": {"remove": ["a b"]}}), "headers.remove"),
        ({"route": [TO[0] | {"headers": {"request": {"add": {"a": "%"}}}}]}, "route.headers.request.add.a"),
        (wide(timeout="1000000h"), "timeout"),
        (setting("a", "x" * 16385), "headers.request.set.a"),
        (wide(headers={"request": {"set": {f"a{n}": "x" for n in range(1001)}}}), "headers.request.set"),
        (wide(rewrite={"uri": "/a", "uriRegexRewrite": {"match": "/b", "rewrite": "/c"}}), "rewrite"),
        (wide(corsPolicy={"allowOrigins": [{"prefix": ""}]}), "corsPolicy.allowOrigins"),
    ],
)
def test_what_envoy_would_refuse_is_left_out_and_the_other_rules_count(words, rule, field):
    """Envoy refuses the whole table of routes, of every caller."""
    [found], [issue] = read(words, rule, {"name": "other", "route": TO})

    assert (issue.code, issue.field) == ("ISM0402", f"spec.http[0].{field}")
    assert [each.name for each in found.rules] == ["other"]


@pytest.mark.parametrize(
    "rule",
    [
        setting("a", "%REQ(X?Y):9%, 100%% at %START_TIME(%s)%"),
        matching(uri={"regex": r"/(a{1000}|\d+)\{9999\}"}),
        wide(retries={"attempts": 0, "backoff": "25ms"}, timeout="0s"),
        {"directResponse": {"status": 200, "body": {"string": "x" * 2**20}}},
    ],
)
def test_what_envoy_takes_counts(words, rule):
    [found], issues = read(words, rule)

    assert (len(found.rules), issues) == (1, ())


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        ({"route": [TO[0] | {"weight": -5}, TO[0] | {"weight": 9}]}, "route.weight"),
        ({"match": [{"destinationSubnets": ["somewhere"]}], "route": TO}, "match.destinationSubnets"),
        ({"match": [{"port": 65536}], "route": TO}, "match.port"),
    ],
)
def test_connections_that_envoy_would_refuse_to_lead_are_left_out(words, rule, field):
    [found], [issue] = read(words, tcp=[rule, {"route": TO}])

    assert (issue.code, issue.field) == ("ISM0402", f"spec.tcp[0].{field}")
    assert len(found.tcp) == 1


def test_a_host_that_is_none_is_left_out(words):
    [found], [issue] = read(words, wide(), hosts=["s", "a\nb"])

    assert (found.hosts, issue.field) == (("s.ns.svc.cluster.local",), "spec.hosts[1]")


def test_of_one_age_the_first_by_name_comes_first_then_by_namespace(words):
    made = [("b", "alpha"), ("a", "zebra"), ("a", "beta")]
    rules = [
        words.obj("VirtualService", name, where, spec={"hosts": ["s.ns"], "http": [{"route": TO}]})
        for name, where in made
    ]

    snapshot = words.snapshot(words.cluster("east", *rules))

    found = [(rule.name, rule.namespace) for rule in snapshot.virtual_services]
    assert found == [("a", "beta"), ("a", "zebra"), ("b", "alpha")]


def test_an_empty_prefix_is_any_text(words):
    empty = {"prefix": ""}
    match = {
        "uri": empty,
        "method": empty,
        "headers": {"a": empty},
        "queryParams": {"b": empty},
        "withoutHeaders": {"c": empty},
    }

    [found], issues = read(words, {"match": [match], "route": TO})

    [read_match] = found.rules[0].matches
    there = TextMatch(Comparison.PRESENT)
    assert (read_match.uri, read_match.method, read_match.headers) == (None, None, (("a", there),))
    assert (read_match.query, read_match.without_headers, issues) == ((("b", there),), (("c", there),), ())


@pytest.mark.parametrize("name", ["web*", "*web", "*-x.example", "**"])
def test_a_server_name_that_envoy_cannot_compare_costs_its_rule(words, name):
    named = [{"match": [{"sniHosts": [each]}], "route": TO} for each in ("*.example", name)]

    [found], [issue] = read(words, tls=named)

    assert [rule.matches[0].sni_hosts for rule in found.tls] == [("*.example",)]
    assert (issue.code, issue.field) == ("ISM0402", "spec.tls[1].match.sniHosts")


def test_every_server_name_is_no_demand(words):
    [found], issues = read(words, tls=[{"match": [{"sniHosts": ["*"]}], "route": TO}])

    assert (found.tls[0].matches[0].sni_hosts, issues) == ((), ())


def test_a_host_that_ends_in_a_dot_is_the_same_host(words):
    [found], _ = read(words, {"route": TO}, hosts=["s.ns.svc.cluster.local."])

    assert found.hosts == ("s.ns.svc.cluster.local",)


@pytest.mark.parametrize(
    ("ports", "mirror", "is_told"),
    [
        ((8080, 9090), {"host": "t"}, True),
        ((80, 9090), {"host": "t"}, False),
        ((8080,), {"host": "t"}, False),
        ((8080, 9090), {"host": "t", "port": {"number": 9090}}, False),
        ((8080, 9090), {"host": "nobody"}, False),
    ],
)
def test_a_mirror_that_may_lead_nowhere_is_told(words, ports, mirror, is_told):
    def service(name, *numbers):
        return words.obj(
            "Service",
            name,
            "ns",
            spec={"clusterIP": "10.0.0.1", "ports": [{"name": f"http-{n}", "port": n} for n in numbers]},
        )

    rule = words.obj("VirtualService", "v", "ns", spec={"hosts": ["s"], "http": [{"route": TO, "mirror": mirror}]})

    snapshot = words.snapshot(words.cluster("east", service("s", 80), service("t", *ports), rule))

    assert [issue.code for issue in snapshot.issues] == ["ISM0410"] * is_told
