"""Expressions are judged as the real Envoy judges them: one that it refuses would cost every route beside it."""

from __future__ import annotations

import json

import pytest

from isthmus.cli.envoy_judgement import complaint
from isthmus.envoy.bootstrap import RUNTIME
from isthmus.model.regular_expressions import not_re2

REFUSED = [
    "[[:zork:]]",
    r"\p{Zork}",
    r"[\p{Zork}]",
    r"\Z",
    r"\u0041",
    r"\é",
    r"[\b]",
    r"[\z]",
    "a++",
    "a*+",
    "a?+",
    "a{2}+",
    "a**",
    "(?>a)",
    "(?#c)a",
    "(?x)a b",
    "(?a)b",
    "(?P<n>a)(?P=n)",
    "(?P<é>a)",
    "(a{1000}){1000}",
    "((a{100}){10}){2}",
    "(x{500}){3}",
    "(a{2,600}|b){2}",
    "(",
    "[b-a]",
    "*a",
    "(?=a)",
    r"(a)\1",
]
TAKEN = [
    "[[:alpha:]]",
    "[[:^digit:]_]",
    r"\p{Greek}",
    r"\pL+\PN?",
    r"[\p{L}\d]",
    r"\x{41}",
    r"\x41",
    r"\Qa(b\E.*",
    r"\Q(",
    "a+?",
    "a{2}?",
    "(?i)a",
    "b(?i)a",
    "(?i-s:a)",
    "(?U)a",
    "(?P<n>a)(?P<n>b)",
    "(?<n>a)",
    r"\A\b\B\C\z",
    "(a{10}){100}",
    "a{500}b{600}",
    "[]a]",
    "[[a]",
    r"/(item-[0-9]{1,400}|list)/.*",
    r"\{9999\}",
    r"\_\-\/",
]


@pytest.mark.parametrize("expression", [*REFUSED, *TAKEN])
def test_an_expression_is_judged_as_envoy_judges_it(expression):
    matched = {"name": "a", "stringMatch": {"safeRegex": {"regex": expression}}}
    log = {
        "name": "a",
        "filter": {"headerFilter": {"header": matched}},
        "typedConfig": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": "/dev/null",
        },
    }
    runtime = {"layers": [{"name": "static", "staticLayer": RUNTIME}]}

    refused = complaint(json.dumps({"layeredRuntime": runtime, "admin": {"accessLog": [log]}}).encode())

    assert bool(not_re2(expression)) == bool(refused), refused
