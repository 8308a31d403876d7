"""Who somebody is and what they may do: tokens and their reviews, roles and refusals, acting for others."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from isthmus.apiserver.tokens import Tokens

REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
ISSUER = "https://kubernetes.default.svc.cluster.local"


@pytest.fixture
async def robot(api, namespace):
    """A service account's path."""
    await api.made(f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": "robot"}})
    return f"/api/v1/namespaces/{namespace}/serviceaccounts/robot"


@pytest.fixture
def token_of(api):
    async def ask(account, **spec):
        answer = await api.call("POST", f"{account}/token", {"spec": spec})
        assert answer.code == 201, answer.text
        return answer.body["status"]["token"]

    return ask


@pytest.fixture
def review(api):
    async def ask(token, *audiences):
        answer = await api.call("POST", REVIEWS, {"spec": {"token": token, "audiences": list(audiences)}})
        assert answer.code == 201
        return answer.body["status"]

    return ask


def claims_of(token):
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def test_a_token_that_was_good_is_not_once_its_time_is_over():
    tokens = Tokens(ec.generate_private_key(ec.SECP256R1()))
    token, expires = tokens.issue(namespace="a", account="b", account_uid="c", audiences=[], seconds=600, now=1_000)

    found = [tokens.verified(token, now) is not None for now in (999, 1_000, expires - 1, expires)]

    assert found == [False, True, True, False]


async def test_a_token_is_good_for_its_audience_only(robot, token_of, review, namespace):
    token = await token_of(robot, audiences=["istio-ca"], expirationSeconds=3600)

    right = await review(token, "istio-ca")
    among = await review(token, "vault", "istio-ca")
    wrong = await review(token, "vault")
    unsaid = await review(token)

    assert right["authenticated"]
    assert right["audiences"] == ["istio-ca"]
    assert right["user"]["username"] == f"system:serviceaccount:{namespace}:robot"
    assert f"system:serviceaccounts:{namespace}" in right["user"]["groups"]
    assert among["audiences"] == ["istio-ca"]
    assert [wrong["authenticated"], unsaid["authenticated"]] == [False, False]
    assert "audiences" in wrong["error"]


async def test_a_token_for_another_audience_does_not_open_the_api(api, robot, token_of):
    token = await token_of(robot, audiences=["istio-ca"])

    answer = await api.call("GET", "/api/v1/pods", token=token)

    assert (answer.code, answer.body["kind"], answer.body["reason"]) == (401, "Status", "Unauthorized")


async def test_a_changed_token_and_a_foreign_token_are_nobodys(robot, token_of, review, fresh_server, connected):
    token = await token_of(robot)
    head, body, signature = token.split(".")
    altered = claims_of(token) | {"sub": "system:serviceaccount:kube-system:root"}
    forged = base64.urlsafe_b64encode(json.dumps(altered).encode()).rstrip(b"=").decode()
    async with connected(fresh_server) as other:
        await other.made("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "robot"}})
        answer = await other.call("POST", "/api/v1/namespaces/default/serviceaccounts/robot/token", {})
        foreign = answer.body["status"]["token"]

    verdicts = [await review(text) for text in (f"{head}.{forged}.{signature}", f"{head}.{body}.", "x", foreign)]

    assert [verdict["authenticated"] for verdict in verdicts] == [False] * 4


async def test_a_token_bound_to_a_pod_names_it_and_dies_with_it(api, robot, token_of, review, namespace):
    pods = f"/api/v1/namespaces/{namespace}/pods"
    spec = {"serviceAccountName": "robot", "containers": [{"name": "a", "image": "a:1"}]}
    pod = await api.made(pods, {"metadata": {"name": "one"}, "spec": spec})
    reference = {"kind": "Pod", "apiVersion": "v1", "name": "one", "uid": pod["metadata"]["uid"]}
    token = await token_of(robot, audiences=["istio-ca"], boundObjectRef=reference)

    alive = await review(token, "istio-ca")
    await api.call("DELETE", f"{pods}/one")
    gone = await review(token, "istio-ca")
    await api.made(pods, {"metadata": {"name": "one"}, "spec": spec})
    another = await review(token, "istio-ca")

    assert alive["user"]["extra"]["authentication.kubernetes.io/pod-name"] == ["one"]
    assert alive["user"]["extra"]["authentication.kubernetes.io/pod-uid"] == [pod["metadata"]["uid"]]
    assert claims_of(token)["kubernetes.io"]["pod"] == {"name": "one", "uid": pod["metadata"]["uid"]}
    assert [gone["authenticated"], another["authenticated"]] == [False, False]


async def test_a_token_is_not_bound_to_a_pod_that_is_not_there_or_is_somebody_elses(api, robot, namespace):
    pods = f"/api/v1/namespaces/{namespace}/pods"
    await api.made(pods, {"metadata": {"name": "theirs"}, "spec": {"containers": [{"name": "a", "image": "a:1"}]}})

    missing = await api.call("POST", f"{robot}/token", {"spec": {"boundObjectRef": {"kind": "Pod", "name": "none"}}})
    theirs = await api.call("POST", f"{robot}/token", {"spec": {"boundObjectRef": {"kind": "Pod", "name": "theirs"}}})

    assert (missing.code, theirs.code) == (404, 400)


async def test_a_token_dies_with_its_account(api, robot, token_of, review, namespace):
    token = await token_of(robot)

    before = await review(token)
    await api.call("DELETE", robot)
    await api.made(f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": "robot"}})
    after = await review(token)

    assert (before["authenticated"], after["authenticated"]) == (True, False)
    assert before["audiences"] == [ISSUER]


async def test_a_token_lives_as_long_as_asked_and_not_too_short(api, robot, token_of):
    token = await token_of(robot, expirationSeconds=1200)
    refused = await api.call("POST", f"{robot}/token", {"spec": {"expirationSeconds": 10}})

    claims = claims_of(token)
    assert claims["exp"] - claims["iat"] == 1200
    assert (refused.code, refused.body["reason"]) == (422, "Invalid")


async def test_what_no_role_allows_is_forbidden(api, robot, token_of, namespace):
    token = await token_of(robot)

    answer = await api.call("GET", f"/api/v1/namespaces/{namespace}/pods", token=token)

    assert (answer.code, answer.body["kind"], answer.body["reason"]) == (403, "Status", "Forbidden")
    assert answer.body["message"] == (
        f'pods is forbidden: User "system:serviceaccount:{namespace}:robot" cannot list resource "pods" '
        f'in API group "" in the namespace "{namespace}"'
    )


async def test_a_role_counts_from_the_next_request_on_and_only_where_it_is(api, robot, token_of, namespace):
    token = await token_of(robot)
    here, everywhere = f"/api/v1/namespaces/{namespace}/configmaps", "/api/v1/configmaps"
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}]
    await api.made(f"{RBAC}/namespaces/{namespace}/roles", {"metadata": {"name": "reader"}, "rules": rules})
    binding = {
        "metadata": {"name": "robot-reads"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "robot", "namespace": namespace}],
    }
    await api.made(f"{RBAC}/namespaces/{namespace}/rolebindings", binding)

    codes = [
        (await api.call("GET", here, token=token)).code,
        (await api.call("GET", here, token=token, watch="1", timeoutSeconds="1")).code,
        (await api.call("POST", here, {"metadata": {"name": "a"}}, token=token)).code,
        (await api.call("GET", everywhere, token=token)).code,
    ]
    await api.call("DELETE", f"{RBAC}/namespaces/{namespace}/rolebindings/robot-reads")
    after = await api.call("GET", here, token=token)

    assert codes == [200, 403, 403, 403]
    assert after.code == 403


async def test_who_may_read_one_name_may_list_and_watch_that_name(api, robot, token_of, namespace):
    token = await token_of(robot)
    where = f"{RBAC}/namespaces/{namespace}"
    read = ["get", "list", "watch"]
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["mesh"], "verbs": read}]
    await api.made(f"{where}/roles", {"metadata": {"name": "mesh-reader"}, "rules": rules})
    subject = {"kind": "ServiceAccount", "name": "robot", "namespace": namespace}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "mesh-reader"}
    await api.made(f"{where}/rolebindings", {"metadata": {"name": "x"}, "subjects": [subject], "roleRef": role})
    path = f"/api/v1/namespaces/{namespace}/configmaps"

    async def code(**asked):
        return (await api.call("GET", path, token=token, timeoutSeconds="1", **asked)).code

    assert await code(fieldSelector="metadata.name=mesh") == 200
    assert await code(fieldSelector="metadata.name=mesh", watch="1") == 200
    assert await code(fieldSelector="metadata.name=other") == 403
    assert await code(fieldSelector="metadata.name!=mesh") == 403
    assert await code() == 403


async def test_nobody_in_particular_may_ask_whether_the_server_is_well(api):
    well = await api.call("GET", "/readyz", token="")
    pods = await api.call("GET", "/api/v1/pods", token="")

    assert (well.code, well.text) == (200, "ok")
    assert (pods.code, pods.body["reason"]) == (403, "Forbidden")
    assert 'User "system:anonymous"' in pods.body["message"]


async def test_whoever_acts_for_a_user_needs_leave_for_each_group_too(api, robot, token_of, namespace):
    token = await token_of(robot)
    rules = [{"apiGroups": [""], "resources": ["users"], "verbs": ["impersonate"], "resourceNames": ["ann"]}]
    role, account = {"name": f"act-{namespace}"}, {"kind": "ServiceAccount", "name": "robot", "namespace": namespace}
    await api.made(f"{RBAC}/clusterroles", {"metadata": role, "rules": rules})
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role["name"]}
    await api.made(f"{RBAC}/clusterrolebindings", {"metadata": role, "roleRef": reference, "subjects": [account]})
    ann, masters = {"Impersonate-User": "ann"}, {"Impersonate-Group": "system:masters"}

    as_ann = await api.call("GET", "/apis", token=token, headers=ann)
    as_master = await api.call("GET", "/api/v1/secrets", token=token, headers=ann | masters)
    as_ben = await api.call("GET", "/apis", token=token, headers={"Impersonate-User": "ben"})
    group_alone = await api.call("GET", "/apis", token=token, headers=masters)

    assert [as_ann.code, as_master.code, as_ben.code, group_alone.code] == [200, 403, 403, 400]


async def test_access_reviews_say_what_would_happen(api, namespace):
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    wanted = {"namespace": namespace, "verb": "list", "resource": "pods"}

    nobody = await api.call("POST", path, {"spec": {"user": "ann", "resourceAttributes": wanted}})
    master = await api.call("POST", path, {"spec": {"groups": ["system:masters"], "resourceAttributes": wanted}})
    nothing = await api.call("POST", path, {"spec": {"user": "ann"}})

    assert (nobody.body["status"]["allowed"], master.body["status"]["allowed"]) == (False, True)
    assert nothing.code == 400


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("clusterroles", {"rules": ["all"]}),
        ("clusterroles", {"rules": [{"verbs": 5}]}),
        ("clusterrolebindings", {"subjects": ["somebody"], "roleRef": {"kind": "ClusterRole", "name": "a"}}),
        ("clusterrolebindings", {"subjects": []}),
    ],
)
async def test_a_role_that_cannot_be_read_is_refused_and_harms_nobody(api, kind, wrong):
    path = f"/apis/rbac.authorization.k8s.io/v1/{kind}"

    refused = await api.call("POST", path, {"metadata": {"name": "wrong"}} | wrong)
    stranger = await api.call("GET", "/api/v1/secrets", headers={"Impersonate-User": "stranger"})

    assert (refused.code, refused.body["reason"]) == (400, "BadRequest")
    assert stranger.code == 403
