"""Admission webhooks: who is asked about which change, what they are told, and what their answers do. The webhooks are real HTTPS servers."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from pathlib import Path

import pytest
from aiohttp import web

from isthmus.apiserver.credentials import load_or_create

MERGE = "application/merge-patch+json"
HOOKS = "/apis/admissionregistration.k8s.io/v1"


class Hook:
    """A webhook server: remembers what it is asked, and answers as the test says."""

    def __init__(self, port, ca_pem):
        self.url = f"https://127.0.0.1:{port}"
        self.port = port
        self.ca_bundle = base64.b64encode(ca_pem.encode()).decode()
        self.asked = []
        self.answer = lambda request: {"allowed": True}

    async def serve(self, request):
        asked = (await request.json())["request"]
        self.asked.append(asked | {"path": request.path, "host": request.host, "timeout": request.query["timeout"]})
        answer = self.answer(asked)
        if asyncio.iscoroutine(answer):
            answer = await answer
        response = {"uid": asked["uid"]} | answer
        if isinstance(response.get("patch"), list):
            patch = base64.b64encode(json.dumps(response["patch"]).encode()).decode()
            response |= {"patch": patch, "patchType": "JSONPatch"}
        return web.json_response({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})


@pytest.fixture
async def hook(tmp_path, namespace):
    credentials = load_or_create(Path(tmp_path / "hook"), "hook", ["127.0.0.1", f"hook.{namespace}.svc"])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(credentials.serving_file)
    application = web.Application()
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    found = []

    async def serve(request):
        return await found[0].serve(request)

    application.router.add_post("/{path:.*}", serve)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port = runner.addresses[0][1]
    found.append(Hook(port, credentials.ca_pem))
    yield found[0]
    await runner.cleanup()


@pytest.fixture
async def configure(api, namespace, hook):
    """Registers webhooks for the objects of the test's namespace, and takes them away after the test."""
    made = []

    async def register(*webhooks, kind="mutating", name="hook"):
        path = f"{HOOKS}/{kind}webhookconfigurations"
        rule = {"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["configmaps"]}
        here = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
        complete = [
            {
                "name": f"hook-{position}.example.com",
                "clientConfig": {"url": f"{hook.url}/{position}", "caBundle": hook.ca_bundle},
                "rules": [rule],
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
                "namespaceSelector": here,
            }
            | webhook
            for position, webhook in enumerate(webhooks or ({},))
        ]
        body = {"metadata": {"name": f"{name}-{namespace}"}, "webhooks": complete}
        answer = await api.call("POST", path, body)
        if answer.code == 201:
            made.append(f"{path}/{name}-{namespace}")
        return answer

    yield register
    for path in made:
        await api.call("DELETE", path)


@pytest.fixture
def config_maps(namespace):
    return f"/api/v1/namespaces/{namespace}/configmaps"


def adds(path, value):
    return lambda _: {"allowed": True, "patch": [{"op": "add", "path": path, "value": value}]}


async def test_a_mutating_webhook_changes_what_is_stored(api, hook, configure, config_maps):
    await configure()
    hook.answer = adds("/data/added", "by the webhook")

    made = await api.made(config_maps, {"metadata": {"name": "a"}, "data": {"x": "1"}})

    assert made["data"] == {"x": "1", "added": "by the webhook"}
    assert (await api.get(f"{config_maps}/a")).body == made


async def test_a_webhook_is_told_all_about_the_change(api, hook, configure, config_maps, namespace):
    await configure({"timeoutSeconds": 7})
    await api.made(config_maps, {"metadata": {"name": "a"}, "data": {"x": "1"}})
    await api.call("PATCH", f"{config_maps}/a", {"data": {"x": "2"}}, content_type=MERGE, fieldManager="me")
    await api.call("DELETE", f"{config_maps}/a", {"propagationPolicy": "Background"})

    created, updated, deleted = hook.asked
    assert [asked["operation"] for asked in hook.asked] == ["CREATE", "UPDATE", "DELETE"]
    assert created["kind"] == created["requestKind"] == {"group": "", "version": "v1", "kind": "ConfigMap"}
    assert created["resource"] == {"group": "", "version": "v1", "resource": "configmaps"}
    assert (created["name"], created["namespace"], created["dryRun"]) == ("a", namespace, False)
    assert created["userInfo"]["groups"] == ["system:masters", "system:authenticated"]
    assert (created["timeout"], created["path"]) == ("7s", "/0")
    assert (created["object"]["data"], created["oldObject"]) == ({"x": "1"}, None)
    assert (updated["object"]["data"], updated["oldObject"]["data"]) == ({"x": "2"}, {"x": "1"})
    assert (updated["options"]["kind"], updated["options"]["fieldManager"]) == ("UpdateOptions", "me")
    assert (deleted["object"], deleted["oldObject"]["data"]) == (None, {"x": "2"})
    assert deleted["options"]["propagationPolicy"] == "Background"


async def test_mutating_webhooks_are_asked_in_the_order_of_names_each_on_the_others_work(
    api, hook, configure, config_maps
):
    await configure({}, {}, name="b")
    await configure({"name": "first.example.com", "clientConfig": {"url": f"{hook.url}/first", "caBundle": hook.ca_bundle}}, name="a")  # fmt: skip
    hook.answer = lambda asked: adds(f"/data/{len(asked['object']['data'])}", "x")(asked)

    made = await api.made(config_maps, {"metadata": {"name": "a"}, "data": {"x": "1"}})

    assert [asked["path"] for asked in hook.asked] == ["/first", "/0", "/1"]
    assert made["data"] == {"x": "1", "1": "x", "2": "x", "3": "x"}


async def test_a_webhook_that_wants_it_is_asked_again_if_a_later_one_changed_the_object(
    api, hook, configure, config_maps
):
    await configure({"reinvocationPolicy": "IfNeeded"}, {})

    def answer(asked):
        missing = "b" if "a" in asked["object"]["data"] else "a"
        return {"allowed": True} if missing in asked["object"]["data"] else adds(f"/data/{missing}", "x")(asked)

    hook.answer = answer
    await api.made(config_maps, {"metadata": {"name": "a"}, "data": {}})
    hook.answer = lambda asked: {"allowed": True}
    await api.made(config_maps, {"metadata": {"name": "b"}, "data": {}})

    assert [asked["path"] for asked in hook.asked] == ["/0", "/1", "/0", "/0", "/1"]


async def test_a_validating_webhook_sees_what_the_mutating_ones_made_and_can_refuse_it(
    api, hook, configure, config_maps
):
    await configure()
    await configure({"clientConfig": {"url": f"{hook.url}/check", "caBundle": hook.ca_bundle}}, kind="validating")

    def answer(asked):
        if "added" not in asked["object"]["data"]:
            return adds("/data/added", "x")(asked)
        return {"allowed": False, "status": {"message": "no added data here", "code": 403, "reason": "Forbidden"}}

    hook.answer = answer
    refused = await api.call("POST", config_maps, {"metadata": {"name": "a"}, "data": {}})

    assert (refused.code, refused.body["reason"]) == (403, "Forbidden")
    assert refused.body["message"] == 'admission webhook "hook-0.example.com" denied the request: no added data here'
    assert (await api.get(f"{config_maps}/a")).code == 404


async def test_a_refusal_without_a_reason_is_a_bad_request(api, hook, configure, config_maps):
    await configure(kind="validating")
    await api.made(config_maps, {"metadata": {"name": "a"}, "data": {}})
    hook.answer = lambda _: {"allowed": False}

    deleted = await api.call("DELETE", f"{config_maps}/a")

    message = 'admission webhook "hook-0.example.com" denied the request without explanation'
    assert (deleted.code, deleted.body["message"]) == (400, message)
    assert (await api.get(f"{config_maps}/a")).code == 200


async def test_selectors_and_rules_choose_who_is_asked(api, hook, configure, config_maps, namespace):
    red = {"objectSelector": {"matchLabels": {"colour": "red"}}}
    elsewhere = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "elsewhere"}}}
    updates = {"rules": [{"operations": ["UPDATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["*"]}]}
    status = {"rules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods/*"]}]}
    cluster = {"rules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["*"], "scope": "Cluster"}]}  # fmt: skip
    await configure(red, elsewhere, updates, status, cluster)
    pods = f"/api/v1/namespaces/{namespace}/pods"

    await api.made(config_maps, {"metadata": {"name": "a", "labels": {"colour": "red"}}})
    await api.call("PATCH", f"{config_maps}/a", {"metadata": {"labels": {"colour": "blue"}}}, content_type=MERGE)
    await api.call("PATCH", f"{config_maps}/a", {"data": {"x": "y"}}, content_type=MERGE)
    await api.made(pods, {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "a"}]}})
    await api.call("PATCH", f"{pods}/p/status", {"status": {"phase": "Running"}}, content_type=MERGE)

    # A label that is taken off was there before the change: its webhook is asked. `*` names no subresources.
    assert [asked["path"] for asked in hook.asked] == ["/0", "/0", "/2", "/2", "/3", "/3"]
    assert hook.asked[-1]["subResource"] == "status"


def on(*expressions, **more):
    conditions = [{"name": f"condition-{n}", "expression": each} for n, each in enumerate(expressions)]
    return {"matchConditions": conditions} | more


@pytest.mark.parametrize("kind", ["mutating", "validating"])
async def test_a_webhook_is_asked_if_all_its_conditions_are_true(api, hook, configure, config_maps, namespace, kind):
    await configure(
        on("object == null || 'authorizer' in object.data", f"request.namespace == '{namespace}'"),
        on("request.operation == 'DELETE'", "object == null && oldObject.metadata.name.startsWith('a')"),
        on("request.operation == 'UPDATE' && oldObject.data != object.data", "!(request.dryRun)"),
        on("request.resource.resource == 'configmaps' && request.kind.version == 'v1'", "request.userInfo.groups.exists(each, each == 'nobody')"),
        kind=kind,
    )  # fmt: skip

    await api.made(config_maps, {"metadata": {"name": "a"}, "data": {"authorizer": "1"}})
    await api.call("PATCH", f"{config_maps}/a", {"data": {"x": "1"}}, content_type=MERGE, dryRun="All")
    await api.call("PATCH", f"{config_maps}/a", {"data": {"authorizer": None, "x": "2"}}, content_type=MERGE)
    await api.call("DELETE", f"{config_maps}/a")

    asked = [(each["operation"], each["path"]) for each in hook.asked]
    assert sorted(asked) == [("CREATE", "/0"), ("DELETE", "/0"), ("DELETE", "/1"), ("UPDATE", "/0"), ("UPDATE", "/2")]


async def test_conditions_of_a_mutating_webhook_see_what_the_one_before_made(api, hook, configure, config_maps):
    await configure({}, on("has(object.data) && 'added' in object.data"), on("!has(object.data)"))
    hook.answer = adds("/data", {"added": "x"})

    await api.made(config_maps, {"metadata": {"name": "a"}})

    assert [asked["path"] for asked in hook.asked] == ["/0", "/1"]


async def test_a_condition_that_cannot_be_told_is_treated_as_the_failure_policy_says(
    api, hook, configure, config_maps, namespace
):
    unknown = "object.data.colour == 'red'"
    await configure(on(unknown, failurePolicy="Ignore"), kind="validating", name="a")
    passed = await api.call("POST", config_maps, {"metadata": {"name": "a"}, "data": {}})
    await configure(on(unknown, "true"), name="b")
    stopped = await api.call("POST", config_maps, {"metadata": {"name": "b"}, "data": {}})
    told = await api.call("POST", config_maps, {"metadata": {"name": "c"}, "data": {"colour": "blue"}})

    assert (passed.code, told.code, hook.asked) == (201, 201, [])
    assert (stopped.code, stopped.body["reason"]) == (403, "Forbidden")
    assert stopped.body["message"].startswith(
        f"configmaps \"b\" is forbidden: expression '{unknown}' resulted in error: "
    )
    assert (await api.get(f"{config_maps}/b")).code == 404


async def test_a_condition_that_is_false_settles_it_though_another_cannot_be_told(api, hook, configure, config_maps):
    await configure(on("object.data.colour == 'red'", "object.metadata.name != 'a'"))

    assert (await api.call("POST", config_maps, {"metadata": {"name": "a"}, "data": {}})).code == 201
    assert hook.asked == []


async def test_a_condition_can_tell_a_dry_run(api, hook, configure, config_maps):
    await configure(on("request.dryRun"), on("!request.dryRun"), kind="validating")

    made = await api.call("POST", config_maps, {"metadata": {"name": "a"}}, dryRun="All")

    assert (made.code, [asked["path"] for asked in hook.asked]) == (201, ["/0"])


async def test_a_webhook_out_of_reach_stops_the_change_unless_it_says_otherwise(api, hook, configure, config_maps):
    nowhere = {"clientConfig": {"url": "https://127.0.0.1:1/x", "caBundle": hook.ca_bundle}}
    await configure(nowhere | {"failurePolicy": "Ignore"}, name="a")
    passed = await api.call("POST", config_maps, {"metadata": {"name": "a"}})
    await configure(nowhere, name="b")
    stopped = await api.call("POST", config_maps, {"metadata": {"name": "b"}})

    assert passed.code == 201
    assert (stopped.code, stopped.body["reason"]) == (500, "InternalError")
    message = stopped.body["message"]
    assert 'failed calling webhook "hook-0.example.com": failed to call webhook' in message
    assert 'Post "https://127.0.0.1:1/x?timeout=10s"' in message


@pytest.mark.parametrize(
    "answer",
    [
        {"uid": "another", "allowed": True},
        {"allowed": "perhaps"},
        {"allowed": True, "patch": "no base64!", "patchType": "JSONPatch"},
        {"allowed": True, "patch": [{"op": "remove", "path": "/data/none"}]},
        {"allowed": True, "patch": [{"op": "replace", "path": "", "value": 5}]},
        {"allowed": True, "patch": [{"op": "replace", "path": "/metadata/name", "value": "other"}]},
    ],
)
async def test_an_answer_that_is_none_stops_the_change(api, hook, configure, config_maps, answer):
    await configure()
    hook.answer = lambda _: answer

    refused = await api.call("POST", config_maps, {"metadata": {"name": "a"}})

    assert (refused.code, refused.body["reason"]) == (500, "InternalError")
    assert (await api.get(config_maps)).body["items"] == []


async def test_a_webhook_that_does_not_answer_is_waited_for_as_long_as_it_says(api, hook, configure, config_maps):
    await configure({"timeoutSeconds": 1})
    never = asyncio.Event()

    async def wait():
        await never.wait()

    hook.answer = lambda _: wait()
    refused = await api.call("POST", config_maps, {"metadata": {"name": "a"}})

    assert refused.code == 500
    assert "no answer within 1 seconds" in refused.body["message"]


async def test_a_webhook_whose_certificate_is_not_its_authoritys_is_not_believed(
    api, hook, configure, config_maps, server
):
    other = base64.b64encode(server.ca_pem.encode()).decode()
    await configure({"clientConfig": {"url": hook.url, "caBundle": other}})

    refused = await api.call("POST", config_maps, {"metadata": {"name": "a"}})

    assert refused.code == 500
    assert "certificate verify failed" in refused.body["message"]
    assert hook.asked == []


async def test_a_webhook_behind_a_service_is_found_by_its_ready_endpoints(api, hook, configure, config_maps, namespace):
    service = {"namespace": namespace, "name": "hook", "path": "/inject"}
    await configure({"clientConfig": {"service": service, "caBundle": hook.ca_bundle}})
    missing = await api.call("POST", config_maps, {"metadata": {"name": "a"}})
    ports = [{"name": "https", "port": 443, "targetPort": hook.port}]
    await api.made(f"/api/v1/namespaces/{namespace}/services", {"metadata": {"name": "hook"}, "spec": {"ports": ports}})
    unready = await api.call("POST", config_maps, {"metadata": {"name": "a"}})
    slice_ = {
        "metadata": {"name": "hook-1", "labels": {"kubernetes.io/service-name": "hook"}},
        "addressType": "FQDN",
        "ports": [{"name": "https", "port": hook.port, "protocol": "TCP"}],
        "endpoints": [
            {"addresses": ["nowhere.invalid"], "conditions": {"ready": False}},
            {"addresses": ["localhost"], "conditions": {"ready": True}},
        ],
    }
    await api.made(f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices", slice_)
    reached = await api.call("POST", config_maps, {"metadata": {"name": "a"}})

    assert 'service "hook" not found' in missing.body["message"]
    assert 'no endpoints available for service "hook"' in unready.body["message"]
    assert reached.code == 201
    assert (hook.asked[0]["path"], hook.asked[0]["host"]) == ("/inject", f"hook.{namespace}.svc")


async def test_warnings_of_webhooks_reach_the_client(api, hook, configure, config_maps):
    await configure(kind="validating")
    hook.answer = lambda _: {"allowed": True, "warnings": ['the field "x" is old', "and\nso on"]}

    made = await api.call("POST", config_maps, {"metadata": {"name": "a"}})

    assert made.headers.getall("Warning") == ['299 - "the field \\"x\\" is old"', '299 - "and so on"']


@pytest.mark.parametrize("allowed", [True, False])
async def test_what_a_webhook_remarks_is_in_the_audit_log(
    server, api, hook, configure, config_maps, namespace, allowed
):
    await configure(kind="validating")
    hook.answer = lambda _: {"allowed": allowed, "auditAnnotations": {"why": "it is Sunday", "long": "x" * 5000}}

    await api.call("POST", config_maps, {"metadata": {"name": "a"}})

    told = [json.loads(line) for line in (server.directory / "audit.log").read_text().splitlines()]
    [event] = [each for each in told if each["requestURI"].startswith(config_maps)]
    assert event["annotations"] == {
        "authorization.k8s.io/decision": "allow",
        "hook-0.example.com/why": "it is Sunday",
        "hook-0.example.com/long": "x" * 1024,
    }


async def test_a_dry_run_is_asked_about_and_leaves_nothing(api, hook, configure, config_maps):
    await configure({"sideEffects": "NoneOnDryRun"})
    hook.answer = adds("/data/added", "x")

    answer = await api.call("POST", config_maps, {"metadata": {"name": "a"}, "data": {}}, headers={}, dryRun="All")

    assert (answer.code, answer.body["data"]) == (201, {"added": "x"})
    assert hook.asked[0]["dryRun"] is True
    assert (await api.get(f"{config_maps}/a")).code == 404


async def test_what_somebody_else_wrote_while_a_webhook_was_asked_is_not_lost(api, hook, configure, config_maps):
    await api.made(config_maps, {"metadata": {"name": "a"}, "data": {"x": "1"}})
    await configure()

    async def slow(asked):
        if asked["userInfo"]["username"] == "kubernetes-admin" and len(hook.asked) == 1:
            meanwhile = {"data": {"y": "theirs"}}
            await api.call("PATCH", f"{config_maps}/a", meanwhile, content_type=MERGE)
        return {"allowed": True}

    hook.answer = slow
    patched = await api.call("PATCH", f"{config_maps}/a", {"data": {"x": "2"}}, content_type=MERGE)

    assert patched.body["data"] == {"x": "2", "y": "theirs"}


@pytest.mark.parametrize(("policy", "times"), [("Equivalent", 1), ("Exact", 0)])
async def test_a_rule_for_one_version_of_a_kind_is_for_the_others_too_unless_it_is_exact(
    api, hook, configure, namespace, policy, times
):
    group = f"{namespace}.example"
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    versions = [{"name": v, "served": True, "storage": v == "v1", "schema": schema} for v in ("v1", "v1beta1")]
    spec = {
        "group": group,
        "scope": "Namespaced",
        "names": {"plural": "lamps", "kind": "Lamp", "singular": "lamp", "listKind": "LampList"},
        "versions": versions,
    }
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    await api.made(crds, {"metadata": {"name": f"lamps.{group}"}, "spec": spec})
    rule = {"operations": ["CREATE"], "apiGroups": [group], "apiVersions": ["v1"], "resources": ["lamps"]}
    await configure({"matchPolicy": policy, "rules": [rule]})
    hook.answer = adds("/spec", {"on": True})

    made = await api.made(f"/apis/{group}/v1beta1/namespaces/{namespace}/lamps", {"metadata": {"name": "hall"}})

    assert len(hook.asked) == times
    assert [asked["object"]["apiVersion"] for asked in hook.asked] == [f"{group}/v1"] * times
    assert [asked["requestKind"]["version"] for asked in hook.asked] == ["v1beta1"] * times
    assert made["apiVersion"] == f"{group}/v1beta1"
    assert made.get("spec") == ({"on": True} if times else None)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"name": "short"}, "name"),
        ({"sideEffects": "Some"}, "sideEffects"),
        ({"admissionReviewVersions": ["v1beta1"]}, "admissionReviewVersions"),
        ({"timeoutSeconds": 31}, "timeoutSeconds"),
        ({"clientConfig": {}}, "clientConfig"),
        ({"clientConfig": {"url": "http://127.0.0.1/"}}, "clientConfig.url"),
        ({"clientConfig": {"url": "https://127.0.0.1/", "caBundle": "bm8="}}, "clientConfig.caBundle"),
        ({"matchConditions": [{"name": "a", "expression": "object."}]}, "matchConditions[0].expression: Invalid value"),
        ({"matchConditions": [{"name": "a", "expression": "1 + 'a' == 2"}]}, "compilation failed: ERROR"),
        ({"matchConditions": [{"name": "a", "expression": "size(object)"}]}, "must evaluate to bool"),
        ({"matchConditions": [{"name": "a", "expression": "object.data.on"}]}, "must evaluate to bool"),
        ({"matchConditions": [{"name": "a", "expression": "request.user == 'me'"}]}, "undefined field 'user'"),
        ({"matchConditions": [{"name": "a", "expression": "authorizer.path('/x').check('get').allowed()"}]}, "this server has no 'authorizer'"),
        ({"matchConditions": [{"name": "a"}]}, "matchConditions[0].expression: Required value"),
        ({"matchConditions": [{"expression": "true"}]}, "matchConditions[0].name: Required value"),
        ({"matchConditions": [{"name": "a b", "expression": "true"}]}, "matchConditions[0].name: Invalid value"),
        ({"matchConditions": [{"name": "a", "expression": "true"}] * 2}, 'matchConditions[1].name: Duplicate value: "a"'),
        ({"matchConditions": [{"name": f"c{n}", "expression": "true"} for n in range(65)]}, "matchConditions: Too many: 65: must have"),
        ({"objectSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}, "objectSelector"),
        ({"rules": [{"operations": ["READ"], "apiGroups": [], "apiVersions": [], "resources": []}]}, "operations"),
    ],
)  # fmt: skip
async def test_a_configuration_that_cannot_be_kept_to_is_refused(configure, wrong, field):
    refused = await configure(wrong)

    assert (refused.code, refused.body["reason"]) == (422, "Invalid")
    assert field in refused.body["message"]


async def test_what_a_configuration_does_not_say_is_written_down(configure):
    made = (await configure({"namespaceSelector": None})).body["webhooks"][0]

    assert made["failurePolicy"] == "Fail"
    assert made["matchPolicy"] == "Equivalent"
    assert made["timeoutSeconds"] == 10
    assert made["reinvocationPolicy"] == "Never"
    assert made["namespaceSelector"] == made["objectSelector"] == {}
    assert made["rules"][0]["scope"] == "*"


async def test_a_webhook_cannot_stand_in_the_way_of_its_own_removal(api, hook, configure, namespace):
    everything = {"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}
    await configure({"rules": [everything]}, kind="validating")
    hook.answer = lambda _: {"allowed": False}

    removed = await api.call("DELETE", f"{HOOKS}/validatingwebhookconfigurations/hook-{namespace}")

    assert removed.code == 200
