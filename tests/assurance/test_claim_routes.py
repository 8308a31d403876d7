"""Routes by claims of tokens, asked with real requests: a gateway's Envoy checks the token, then chooses the route. The walk says the same."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import minted_tokens
import pytest
import yaml
from free_ports import free_port
from running_envoy import running_envoy

from isthmus.assurance.rendering import node_of, render
from isthmus.assurance.scenario import Scenario, scenario_of
from isthmus.assurance.traffic.request import Request
from isthmus.assurance.traffic.walk import Configuration, Side, walk
from isthmus.envoy.static import static_bootstrap

MESH = """
apiVersion: v1
kind: Pod
metadata: {name: in, namespace: edge, labels: {app: in}}
status: {podIP: 10.0.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: caller, namespace: books, labels: {app: caller}}
status: {podIP: 10.0.0.2}
---
apiVersion: v1
kind: Service
metadata: {name: shelf, namespace: books}
spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: front, namespace: edge}
spec:
  selector: {app: in}
  servers: [{port: {number: PORT, name: http, protocol: HTTP}, hosts: [books.example]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: books, namespace: books}
spec:
  hosts: [books.example, shelf]
  gateways: [edge/front, mesh]
"""

OTHER_ISSUER = "https://other.example"


def issuer(name: str, key: Any, key_name: str) -> dict[str, Any]:
    return {"issuer": name, "jwks": json.dumps({"keys": [minted_tokens.public(key, key_name)]})}


AUTHENTICATION = {
    "apiVersion": "security.istio.io/v1",
    "kind": "RequestAuthentication",
    "metadata": {"name": "tokens", "namespace": "edge"},
    "spec": {
        "selector": {"matchLabels": {"app": "in"}},
        "jwtRules": [
            issuer(minted_tokens.GOOD["iss"], minted_tokens.KEY, "k1"),
            issuer(OTHER_ISSUER, minted_tokens.EC_KEY, "k2"),
        ],
    },
}

GROUP = "@request.auth.claims.group"
MATCHES: dict[str, Any] = {
    "exact": {"headers": {GROUP: {"exact": "admin"}}},
    "prefix": {"headers": {GROUP: {"prefix": "ad"}}},
    "regex": {"headers": {GROUP: {"regex": "a.*n"}}},
    "present": {"headers": {GROUP: {}}},
    "scope": {"headers": {"@request.auth.claims.scope": {"exact": "write"}}},
    "nested": {"headers": {"@request.auth.claims.realm.role": {"exact": "boss"}}},
    "bracketed": {"headers": {"@request.auth.claims[https://books.example/x][role]": {"exact": "boss"}}},
    "unlike": {"withoutHeaders": {GROUP: {"exact": "admin"}}},
    "absent": {"withoutHeaders": {GROUP: {}}},
    "both": {"headers": {GROUP: {"exact": "admin"}, "x-really": {"exact": "yes"}}},
}
"""By the path for which each is asked."""

NOBODY: dict[str, Any] = {}
ADMIN = {"group": "admin"}
STAFF = {"group": "staff"}
SEVERAL = {"group": ["staff", "admin"]}
BOSS = {"scope": "read write", "realm": {"role": ["boss"]}, "https://books.example/x": {"role": "boss"}}

TAKEN = [
    ("exact", (ADMIN, SEVERAL), (NOBODY, STAFF, {"group": "administrator"}, {"group": ["staff"]}, {"group": 1}, BOSS)),
    ("prefix", (ADMIN, SEVERAL, {"group": "adept"}), (NOBODY, STAFF)),
    ("regex", (ADMIN, SEVERAL), (NOBODY, STAFF, {"group": "admins"})),
    ("present", (ADMIN, STAFF, {"group": []}), (NOBODY, BOSS)),
    ("scope", (BOSS, {"scope": "write"}), (NOBODY, {"scope": "read"}, {"scope": "writer"})),
    ("nested", (BOSS,), (NOBODY, {"realm": "boss"}, {"realm.role": "boss"})),
    ("bracketed", (BOSS,), (NOBODY, {"role": "boss"})),
    ("unlike", (NOBODY, STAFF, BOSS), (ADMIN, SEVERAL)),
    ("absent", (NOBODY, BOSS), (ADMIN, STAFF)),
    ("both", (), (ADMIN, NOBODY)),
]


def mesh(port: int, *more: Any) -> Scenario:
    objects = list(yaml.safe_load_all(MESH.replace("PORT", str(port))))
    objects[-1]["spec"]["http"] = [
        *({"match": [{"uri": {"exact": f"/{name}"}} | match]} | answering(name) for name, match in MATCHES.items()),
        answering("rest"),
    ]
    return scenario_of({"clusters": [{"id": "east", "objects": [*objects, *more]}]})


def answering(text: str) -> dict[str, Any]:
    return {"directResponse": {"status": 200, "body": {"string": text}}}


class Front:
    """The gateway, in both: its Envoy and the walk."""

    def __init__(self, document: dict[str, Any], port: int) -> None:
        self._document, self._port = document, port

    def answered(self, path: str, token: str = "", **headers: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        said = {"Host": "books.example"} | headers | ({"Authorization": f"Bearer {token}"} if token else {})
        connection.request("GET", f"/{path}", headers=said)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def walked(self, path: str, claims: dict[str, Any]) -> str:
        request = Request(port=self._port, host="books.example", path=f"/{path}", claims=claims)
        return walk(Configuration(self._document), request, Side.GATEWAY).route_match


def served(directory: Path, *more: Any) -> Iterator[Front]:
    port = free_port()
    scenario = mesh(port, *more)
    document = render(scenario, node_of(scenario, "router/in.edge", "east"))
    for cluster in document["clusters"]:
        # Nobody is there to give the mesh's certificates, and nobody here asks for one.
        cluster.pop("transportSocketMatches", None)
    with running_envoy(static_bootstrap(document), directory):
        yield Front(document, port)


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    yield from served(tmp_path_factory.mktemp("envoy"), AUTHENTICATION)


@pytest.fixture(scope="module")
def unchecked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """A gateway that asks nobody for tokens."""
    yield from served(tmp_path_factory.mktemp("envoy"))


def token(claims: dict[str, Any], **changed: Any) -> str:
    return minted_tokens.token(exp=4_000_000_000, **claims, **changed) if claims else ""


CASES = [
    (path, claims, is_taken)
    for path, yes, no in TAKEN
    for claims, is_taken in (*((each, True) for each in yes), *((each, False) for each in no))
]


@pytest.mark.parametrize(("path", "claims", "is_taken"), CASES)
def test_a_route_is_chosen_by_what_the_token_says(
    front: Front, path: str, claims: dict[str, Any], is_taken: bool
) -> None:
    assert front.answered(path, token(claims)) == (200, path if is_taken else "rest")


# The walk is given claims as they are found, and a scope is found to be a list.
@pytest.mark.parametrize(("path", "claims", "is_taken"), [each for each in CASES if each[0] != "scope"])
def test_the_walk_chooses_the_same(front: Front, path: str, claims: dict[str, Any], is_taken: bool) -> None:
    assert ("claim" in front.walked(path, claims)) == is_taken


def test_all_that_a_match_says_has_to_hold(front: Front) -> None:
    assert front.answered("both", token(ADMIN), **{"x-really": "yes"}) == (200, "both")
    assert front.answered("both", token(STAFF), **{"x-really": "yes"}) == (200, "rest")


@pytest.mark.parametrize("name", [GROUP, GROUP.removeprefix("@"), "group"])
def test_a_header_that_a_caller_writes_is_no_claim(front: Front, name: str) -> None:
    status, body = front.answered("exact", **{name: "admin"})

    assert body != "exact"
    assert status in (200, 400), "Envoy may refuse such a name; else the header is one like any other"
    assert front.answered("exact", token(STAFF), **{name: "admin"})[1] != "exact"


def test_each_issuers_tokens_count(front: Front) -> None:
    theirs = token(ADMIN, iss=OTHER_ISSUER, key=minted_tokens.EC_KEY, algorithm="ES256", name="k2")

    assert front.answered("exact", theirs) == (200, "exact")


def test_a_token_that_is_not_valid_ends_the_request(front: Front) -> None:
    assert front.answered("exact", token(ADMIN, key=minted_tokens.OTHER_KEY))[0] == 401
    assert front.answered("unlike", token(ADMIN, key=minted_tokens.OTHER_KEY))[0] == 401


def test_without_a_request_authentication_no_token_says_anything(unchecked: Front) -> None:
    assert unchecked.answered("exact", token(ADMIN)) == (200, "rest")
    assert unchecked.answered("present", token(ADMIN)) == (200, "rest")


def test_sidecars_have_no_route_that_asks_for_claims() -> None:
    scenario = mesh(80, AUTHENTICATION)
    document = render(scenario, node_of(scenario, "sidecar/caller.books", "east"))

    [shelf] = [
        host for table in document["routes"] for host in table["virtualHosts"] if host["name"].startswith("shelf.")
    ]
    assert [route["directResponse"]["body"] for route in shelf["routes"]] == [{"inlineString": "rest"}]
