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
