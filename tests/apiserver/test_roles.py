"""Roles: those that every cluster has, aggregation, what nobody can give who has it not, and acting for others."""

from __future__ import annotations

import pytest

RBAC = "/apis/rbac.authorization.k8s.io/v1"
MERGE = "application/merge-patch+json"
GROUP = "rbac.authorization.k8s.io"


@pytest.fixture
def user(api, namespace):
    """Calls as a user who has a role in the test's namespace (or everywhere)."""

    async def run(name, role, *, everywhere=False):
        subject = {"kind": "User", "apiGroup": GROUP, "name": name}
        reference = {"apiGroup": GROUP, "kind": "ClusterRole", "name": role}
        binding = {"metadata": {"name": f"{name}-{role}"}, "roleRef": reference, "subjects": [subject]}
        path = f"{RBAC}/clusterrolebindings" if everywhere else f"{RBAC}/namespaces/{namespace}/rolebindings"
        await api.made(path, binding)

        async def call(method, path, body=None, **rest):
            return await api.call(method, path, body, headers={"Impersonate-User": name}, **rest)

        return call

    return run


def role(name, *rules, **more):
    return {"metadata": {"name": name}, "rules": list(rules)} | more


def rule(group, resource, *verbs):
    return {"apiGroups": [group], "resources": [resource], "verbs": list(verbs)}


async def codes(call, *requests):
    return [(await call(method, path, body)).code for method, path, body in requests]


@pytest.mark.parametrize(
    ("name", "reads", "writes", "secrets", "grants"),
    [("view", 200, 403, 403, 403), ("edit", 200, 201, 200, 403), ("admin", 200, 201, 200, 201)],
)
async def test_the_roles_that_people_know_may_what_people_think(user, namespace, name, reads, writes, secrets, grants):
    call = await user(f"ann-{namespace}", name)
    inside = f"/api/v1/namespaces/{namespace}"

    found = await codes(
        call,
        ("GET", f"{inside}/pods", None),
        ("POST", f"{inside}/configmaps", {"metadata": {"name": "a"}}),
        ("GET", f"{inside}/secrets", None),
        ("POST", f"{RBAC}/namespaces/{namespace}/roles", role("r", rule("", "pods", "get"))),
        ("GET", "/api/v1/nodes", None),
        ("GET", "/api/v1/namespaces/default/pods", None),
    )

    assert found == [reads, writes, secrets, grants, 403, 403]


async def test_aggregated_roles_have_what_is_labelled_for_them(api, user, namespace):
    name, group = f"lamps-{namespace}", f"{namespace}.example"
    labels = {"rbac.authorization.k8s.io/aggregate-to-view": "true"}
    part = role(name, rule(group, "lamps", "get")) | {"metadata": {"name": name, "labels": labels}}
    async with api.watch(f"{RBAC}/clusterroles", fieldSelector="metadata.name=admin") as watch:
        await watch.next()
        await api.made(f"{RBAC}/clusterroles", part)
        aggregated = (await watch.next())["object"]
        await api.call("DELETE", f"{RBAC}/clusterroles/{name}")
        less = (await watch.next())["object"]

    assert rule(group, "lamps", "get") in aggregated["rules"]
    assert rule(group, "lamps", "get") not in less["rules"]


async def test_a_developer_has_workloads_and_rules_of_the_namespace_but_not_what_is_everybodys(user, namespace):
    call = await user(f"dev-{namespace}", "isthmus-developer")

    async def may(verb, group, resource, inside=namespace):
        attributes = {"namespace": inside, "verb": verb, "group": group, "resource": resource}
        spec = {"spec": {"resourceAttributes": attributes}}
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        return (await call("POST", path, spec)).body["status"]["allowed"]

    assert await may("create", "networking.istio.io", "virtualservices")
    assert await may("create", "security.istio.io", "authorizationpolicies")
    assert await may("create", "apps", "deployments")
    assert await may("get", "networking.istio.io", "envoyfilters")
    assert not await may("create", "networking.istio.io", "envoyfilters")
    assert not await may("create", "networking.istio.io", "gateways")
    assert not await may("create", GROUP, "rolebindings")
    assert not await may("create", "networking.istio.io", "virtualservices", "default")
    assert not await may("get", "", "secrets", "istio-system")


async def test_a_cluster_administrator_has_the_cluster_but_cannot_become_more(user, namespace):
    call = await user(f"chief-{namespace}", "isthmus-cluster-administrator", everywhere=True)
    everything = role(f"all-{namespace}", rule("*", "*", "*"))
    masters = {
        "metadata": {"name": f"more-{namespace}"},
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "User", "apiGroup": GROUP, "name": f"chief-{namespace}"}],
    }

    found = await codes(
        call,
        ("POST", "/api/v1/namespaces", {"metadata": {"name": f"{namespace}-more"}}),
        ("GET", "/api/v1/nodes", None),
        ("GET", f"/api/v1/namespaces/{namespace}-more/secrets", None),
        ("POST", f"{RBAC}/clusterroles", role(f"part-{namespace}", rule("", "pods", "get"))),
        ("POST", f"{RBAC}/clusterroles", everything),
        ("POST", f"{RBAC}/clusterrolebindings", masters),
    )

    assert found == [201, 200, 200, 201, 403, 403]


async def test_nobody_gives_in_a_role_what_he_has_not(api, user, namespace):
    call = await user(f"ann-{namespace}", "admin")
    roles = f"{RBAC}/namespaces/{namespace}/roles"

    held = await call("POST", roles, role("held", rule("", "pods", "get")))
    more = await call("POST", roles, role("more", rule("", "pods", "get"), rule("", "nodes", "get")))
    widened = await call("PATCH", f"{roles}/held", {"rules": [rule("*", "*", "*")]}, content_type=MERGE)
    labelled = await call("PATCH", f"{roles}/held", {"metadata": {"labels": {"a": "b"}}}, content_type=MERGE)

    assert [held.code, more.code, widened.code, labelled.code] == [201, 403, 403, 200]
    assert "attempting to grant RBAC permissions not currently held" in more.body["message"]
    assert '{APIGroups:[""], Resources:["nodes"], Verbs:["get"]}' in more.body["message"]
    assert 'Resources:["pods"]' not in more.body["message"]


async def test_nobody_binds_a_role_that_gives_what_he_has_not_unless_he_may_bind_it(api, user, namespace):
    call = await user(f"ann-{namespace}", "admin")
    path = f"{RBAC}/namespaces/{namespace}/rolebindings"

    def binding(name, to):
        reference = {"apiGroup": GROUP, "kind": "ClusterRole", "name": to}
        return {"metadata": {"name": name}, "roleRef": reference, "subjects": []}

    refused = await call("POST", path, binding("a", "cluster-admin"))
    lesser = await call("POST", path, binding("b", "view"))
    binder = rule(GROUP, "clusterroles", "bind") | {"resourceNames": ["cluster-admin"]}
    await api.made(f"{RBAC}/namespaces/{namespace}/roles", role("binder", binder))
    reference = {"apiGroup": GROUP, "kind": "Role", "name": "binder"}
    subject = {"kind": "User", "apiGroup": GROUP, "name": f"ann-{namespace}"}
    await api.made(path, {"metadata": {"name": "binder"}, "roleRef": reference, "subjects": [subject]})
    allowed = await call("POST", path, binding("c", "cluster-admin"))

    assert [refused.code, lesser.code, allowed.code] == [403, 201, 201]


async def test_a_binding_keeps_its_role(api, namespace):
    path = f"{RBAC}/namespaces/{namespace}/rolebindings"
    reference = {"apiGroup": GROUP, "kind": "ClusterRole", "name": "view"}
    await api.made(path, {"metadata": {"name": "a"}, "roleRef": reference})

    moved = await api.call("PATCH", f"{path}/a", {"roleRef": {"name": "edit"}}, content_type=MERGE)

    assert moved.code == 422


async def test_whoever_acts_for_others_says_all_that_they_are(api):
    headers = {
        "Impersonate-User": "ann",
        "Impersonate-Group": "team",
        "Impersonate-Uid": "u-1",
        "Impersonate-Extra-Example.Com%2FColour": "red",
    }

    answer = await api.call("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {}, headers=headers)

    assert answer.body["status"]["userInfo"] == {
        "username": "ann",
        "groups": ["team", "system:authenticated"],
        "uid": "u-1",
        "extra": {"example.com/colour": ["red"]},
    }


async def test_whoever_acts_for_others_needs_leave_for_uid_and_extra_too(api, user, namespace):
    await api.made(f"{RBAC}/clusterroles", role(f"act-{namespace}", rule("", "users", "impersonate")))
    await api.made(f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": "robot"}})
    reference = {"apiGroup": GROUP, "kind": "ClusterRole", "name": f"act-{namespace}"}
    subject = {"kind": "ServiceAccount", "name": "robot", "namespace": namespace}
    binding = {"metadata": {"name": f"act-{namespace}"}, "roleRef": reference, "subjects": [subject]}
    await api.made(f"{RBAC}/clusterrolebindings", binding)
    made = await api.call("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts/robot/token", {})
    token, ann = made.body["status"]["token"], {"Impersonate-User": "ann"}

    async def code(**headers):
        return (await api.call("GET", "/apis", token=token, headers=ann | headers)).code

    assert await code() == 200
    assert await code(**{"Impersonate-Uid": "u"}) == 403
    assert await code(**{"Impersonate-Extra-a": "b"}) == 403
    assert (await api.call("GET", "/apis", headers={"Impersonate-Uid": "u"})).code == 400


async def test_a_token_bound_to_a_secret_dies_with_it(api, namespace):
    inside = f"/api/v1/namespaces/{namespace}"
    await api.made(f"{inside}/serviceaccounts", {"metadata": {"name": "robot"}})
    await api.made(f"{inside}/secrets", {"metadata": {"name": "s"}})
    bound = {"spec": {"boundObjectRef": {"kind": "Secret", "apiVersion": "v1", "name": "s"}}}
    token = (await api.call("POST", f"{inside}/serviceaccounts/robot/token", bound)).body["status"]["token"]

    before = await api.call("GET", "/apis", token=token)
    await api.call("DELETE", f"{inside}/secrets/s")
    after = await api.call("GET", "/apis", token=token)

    assert (before.code, after.code) == (200, 401)


async def test_a_local_review_is_about_its_own_namespace(api, namespace):
    path = f"/apis/authorization.k8s.io/v1/namespaces/{namespace}/localsubjectaccessreviews"
    asked = {"user": "ann", "resourceAttributes": {"namespace": namespace, "verb": "get", "resource": "pods"}}
    elsewhere = asked | {"resourceAttributes": {"namespace": "default", "verb": "get", "resource": "pods"}}

    here = await api.call("POST", path, {"spec": asked})
    there = await api.call("POST", path, {"spec": elsewhere})

    assert (here.code, here.body["status"]["allowed"], there.code) == (201, False, 400)


async def test_whoever_may_list_one_object_may_list_it_by_name(api, user, namespace):
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    await api.made(path, {"metadata": {"name": "mine"}})
    name = f"one-{namespace}"
    only = rule("", "configmaps", "list", "watch") | {"resourceNames": ["mine"]}
    await api.made(f"{RBAC}/clusterroles", role(name, only))
    call = await user(f"ann-{namespace}", name)

    one = await call("GET", path, fieldSelector="metadata.name=mine")
    other = await call("GET", path, fieldSelector="metadata.name=theirs")

    assert (one.code, other.code, (await call("GET", path)).code) == (200, 403, 403)
