"""AuthorizationPolicies as values; what cannot be read never lets in more."""

from __future__ import annotations

import pytest

from isthmus.model.security import Attribute, Rule


def read(words, *rules, action="ALLOW"):
    policy = words.obj("AuthorizationPolicy", "p", "ns", spec={"action": action, "rules": list(rules)})
    snapshot = words.snapshot(words.cluster("east", policy))
    [found] = snapshot.authorization_policies
    return found.rules, snapshot.issues


def source(**said):
    return {"from": [{"source": said}]}


GOOD = source(ipBlocks=["10.0.0.0/8"])


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("ALLOW", ()),
        ("DENY", (Rule(sources=((Attribute("namespaces", ("a",)),),)),)),
    ],
)
def test_a_rule_with_an_address_that_is_none(words, action, expected):
    rules, [issue] = read(words, source(ipBlocks=["10.0.0.256"], namespaces=["a"]), action=action)

    assert rules == expected
    assert (issue.code, issue.field) == ("ISM0305", "spec.rules[0]")


def test_other_rules_of_the_policy_count(words):
    rules, issues = read(words, GOOD, {"when": [{"key": "remote.ip", "values": ["here"]}]})

    assert rules == (Rule(sources=((Attribute("ip_blocks", ("10.0.0.0/8",)),),)),)
    assert [issue.field for issue in issues] == ["spec.rules[1]"]


@pytest.mark.parametrize(("action", "kept"), [("ALLOW", 0), ("DENY", 1)])
def test_a_rule_about_a_header_that_cannot_be(words, action, kept):
    rules, [issue] = read(words, {"when": [{"key": "request.headers[a\n]", "values": ["b"]}]}, action=action)

    assert rules == (Rule(),) * kept
    assert (issue.code, issue.field) == ("ISM0305", "spec.rules[0]")


@pytest.mark.parametrize("port", ["0", "99999", "-1", "9" * 5000, "\u0661\u0662", "http"])
def test_a_mode_for_what_is_no_port_is_told_and_the_others_hold(words, port):
    spec = {
        "selector": {"matchLabels": {"app": "a"}},
        "portLevelMtls": {"8080": {"mode": "STRICT"}, port: {"mode": "DISABLE"}},
    }

    snapshot = words.snapshot(words.cluster("east", words.obj("PeerAuthentication", "p", "ns", spec=spec)))

    [found], [issue] = snapshot.peer_authentications, snapshot.issues
    assert [number for number, _ in found.port_modes] == [8080]
    assert (issue.code, issue.field) == ("ISM0301", "spec.portLevelMtls")
