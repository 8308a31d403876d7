"""Laws of who may do what."""

from __future__ import annotations

import asyncio

import pytest

RBAC = "/apis/rbac.authorization.k8s.io/v1"
GROUP = "rbac.authorization.k8s.io"
REVIEWS = "/apis/authorization.k8s.io/v1"
KEY_SET = "application/jwk-set+json"


@pytest.fixture
async def robot(server, namespace):
    """A service account's calls."""
    accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    await server.made(accounts, {"metadata": {"name": "robot"}})
    answer = await server.call("POST", f"{accounts}/robot/token", {"spec": {"expirationSeconds": 3600}})
    token = answer.body["status"]["token"]

    async def call(method, path, body=None, **parameters):
        return await server.call(method, path, body, headers={"Authorization": f"Bearer {token}"}, **parameters)

    call.token = token
    return call


@pytest.fixture
def grant(server, namespace):
    """Binds a new Role to the robot."""

    async def run(*rules):
        await server.made(f"{RBAC}/namespaces/{namespace}/roles", {"metadata": {"name": "law"}, "rules": list(rules)})
        binding = {
            "metadata": {"name": "law"},
            "roleRef": {"apiGroup": GROUP, "kind": "Role", "name": "law"},
            "subjects": [{"kind": "ServiceAccount", "name": "robot", "namespace": namespace}],
        }
        await server.made(f"{RBAC}/namespaces/{namespace}/rolebindings", binding)

    return run


async def allowed(robot, path):
    """Once roles have got around: a server may take a moment."""
    for _ in range(200):
        answer = await robot("GET", path)
        if answer.code != 403:
            return answer
    return answer


async def test_what_no_role_allows_is_forbidden_and_says_so(robot, maps, namespace):
    answer = await robot("GET", maps)

    assert (answer.code, answer.body["reason"]) == (403, "Forbidden")
    assert answer.body["message"] == (
        f'configmaps is forbidden: User "system:serviceaccount:{namespace}:robot" cannot list resource "configmaps" '
        f'in API group "" in the namespace "{namespace}"'
    )


async def test_a_role_allows_what_it_says_where_it_is(robot, grant, maps):
    await grant({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]})

    listed = await allowed(robot, maps)

    assert listed.code == 200
    assert (await robot("POST", maps, {"metadata": {"name": "a"}})).code == 403
    assert (await robot("GET", "/api/v1/configmaps")).code == 403


async def test_names_in_a_rule_are_the_only_ones(server, robot, grant, maps):
    for name in ("mine", "theirs"):
        await server.made(maps, {"metadata": {"name": name}})
    await grant({"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["mine"], "verbs": ["get"]})

    assert (await allowed(robot, f"{maps}/mine")).code == 200
    assert (await robot("GET", f"{maps}/theirs")).code == 403


async def test_nobody_gives_what_he_has_not(robot, grant, maps, namespace):
    roles = f"{RBAC}/namespaces/{namespace}/roles"
    own = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}
    await grant(own, {"apiGroups": [GROUP], "resources": ["roles", "rolebindings"], "verbs": ["create"]})
    await allowed(robot, maps)

    same = await robot("POST", roles, {"metadata": {"name": "same"}, "rules": [own]})
    more = await robot("POST", roles, {"metadata": {"name": "more"}, "rules": [own | {"verbs": ["delete"]}]})
    reference = {"apiGroup": GROUP, "kind": "ClusterRole", "name": "admin"}
    bound = await robot(
        "POST", f"{RBAC}/namespaces/{namespace}/rolebindings", {"metadata": {"name": "up"}, "roleRef": reference}
    )

    assert [same.code, more.code, bound.code] == [201, 403, 403]
    assert "attempting to grant RBAC permissions not currently held" in more.body["message"]


async def test_a_token_is_what_it_was_asked_for(server, namespace, robot):
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/robot/token"
    made = await server.call("POST", path, {"spec": {"audiences": ["law"], "expirationSeconds": 3600}})
    token = made.body["status"]["token"]
    reviews = "/apis/authentication.k8s.io/v1/tokenreviews"

    right = await server.call("POST", reviews, {"spec": {"token": token, "audiences": ["law"]}})
    wrong = await server.call("POST", reviews, {"spec": {"token": token, "audiences": ["other"]}})
    none = await server.call("POST", reviews, {"spec": {"token": "none"}})
    used = await server.call("GET", "/api/v1/namespaces", headers={"Authorization": f"Bearer {token}"})

    assert right.body["status"]["user"]["username"] == f"system:serviceaccount:{namespace}:robot"
    assert right.body["status"]["audiences"] == ["law"]
    assert [answer.body["status"].get("authenticated", False) for answer in (wrong, none)] == [False, False]
    assert used.code == 401


async def test_a_token_bound_to_something_dies_with_it(server, namespace, robot):
    secrets = f"/api/v1/namespaces/{namespace}/secrets"
    made = await server.made(secrets, {"metadata": {"name": "s"}})
    bound = {"kind": "Secret", "apiVersion": "v1", "name": "s", "uid": made["metadata"]["uid"]}
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/robot/token"
    token = (await server.call("POST", path, {"spec": {"boundObjectRef": bound}})).body["status"]["token"]
    review = {"spec": {"token": token}}

    async def is_taken():
        answer = await server.call("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review)
        return answer.body["status"].get("authenticated", False)

    assert await is_taken()
    await server.call("DELETE", f"{secrets}/s")

    # A server may remember for some seconds whom it has let in.
    for _ in range(300):
        if not await is_taken():
            return
        await asyncio.sleep(0.1)
    pytest.fail("the token is still taken")


async def test_reviews_say_what_would_happen(server, robot, grant, namespace, maps):
    await grant({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]})
    await allowed(robot, maps)
    wanted = {"namespace": namespace, "verb": "list", "resource": "configmaps"}

    mine = await robot("POST", f"{REVIEWS}/selfsubjectaccessreviews", {"spec": {"resourceAttributes": wanted}})
    more = wanted | {"verb": "delete"}
    not_mine = await robot("POST", f"{REVIEWS}/selfsubjectaccessreviews", {"spec": {"resourceAttributes": more}})
    account = f"system:serviceaccount:{namespace}:robot"
    asked = {"spec": {"user": account, "resourceAttributes": wanted}}
    about = await server.call("POST", f"{REVIEWS}/subjectaccessreviews", asked)
    local = await server.call("POST", f"{REVIEWS}/namespaces/{namespace}/localsubjectaccessreviews", asked)
    rules = await robot("POST", f"{REVIEWS}/selfsubjectrulesreviews", {"spec": {"namespace": namespace}})
    myself = await robot("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {})

    answers = [answer.body["status"]["allowed"] for answer in (mine, not_mine, about, local)]
    assert answers == [True, False, True, True]
    assert ["configmaps"] in [rule["resources"] for rule in rules.body["status"]["resourceRules"]]
    assert myself.body["status"]["userInfo"]["username"] == account


async def test_whoever_acts_for_another_is_that_one(server):
    headers = {"Impersonate-User": "law-ann", "Impersonate-Group": "law-team"}

    answer = await server.call("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {}, headers=headers)
    refused = await server.call("GET", "/api/v1/secrets", headers=headers)

    assert answer.body["status"]["userInfo"]["username"] == "law-ann"
    assert set(answer.body["status"]["userInfo"]["groups"]) == {"law-team", "system:authenticated"}
    assert refused.code == 403


async def test_the_issuer_says_who_it_is_and_shows_its_keys(server):
    document = (await server.get("/.well-known/openid-configuration")).body
    keys = await server.call("GET", "/openid/v1/jwks", headers={"Accept": KEY_SET})

    assert document["issuer"]
    assert document["jwks_uri"].endswith("/openid/v1/jwks")
    assert keys.content_type == KEY_SET
    assert all({"kid", "kty", "alg"} <= key.keys() for key in keys.body["keys"])
