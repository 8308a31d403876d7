"""One question to a table, without a server."""

from __future__ import annotations

import pytest

from isthmus.dns.query import query

TABLE = {
    "proxyNamespace": "sample",
    "proxyDomain": "sample.svc.cluster.local",
    "searchDomains": ["sample.svc.cluster.local", "svc.cluster.local", "cluster.local"],
    "nameTable": {
        "helloworld.sample.svc.cluster.local": {
            "ips": ["10.97.0.1"], "registry": "Kubernetes", "shortname": "helloworld", "namespace": "sample",
            "altHosts": ["helloworld.sample.svc.clusterset.local"],
        },
        "api.example": {"ips": ["240.0.0.1", "2001:db8::1"], "registry": "External"},
    },
    "upstream": {"known.example": {"A": "1.2.3.4"}, "*": "NXDOMAIN"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "kind", "rcode", "data"),
    [
        ("helloworld", "A", "NOERROR", ["10.97.0.1"]),
        ("helloworld.sample.", "A", "NOERROR", ["10.97.0.1"]),
        ("helloworld.sample.svc.clusterset.local", "A", "NOERROR", ["10.97.0.1"]),
        ("helloworld", "AAAA", "NOERROR", []),
        ("api.example", "AAAA", "NOERROR", ["2001:db8::1"]),
        ("api.example.sample.svc.cluster.local", "A", "NOERROR", ["api.example.", "240.0.0.1"]),
        ("known.example", "A", "NOERROR", ["1.2.3.4"]),
        ("nobody.example", "A", "NXDOMAIN", []),
    ],
)
def test_answers(name, kind, rcode, data):
    found = query(TABLE, name, kind)

    assert found["rcode"] == rcode
    assert [each["data"] for each in found["answers"]] == data


@pytest.mark.parametrize(("name", "kind"), [("a" * 64, "A"), ("a", "MX")])
def test_what_cannot_be_asked_is_refused(name, kind):
    with pytest.raises(ValueError, match=r"is not"):
        query(TABLE, name, kind)
