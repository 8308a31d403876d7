"""Laws of admission, with a webhook that runs here. A server that cannot reach it is not held to them, and says why."""

from __future__ import annotations

import base64
import json
import secrets
import socket
import ssl

import pytest
from aiohttp import web

from isthmus.apiserver.credentials import load_or_create

HOOKS = "/apis/admissionregistration.k8s.io/v1"
MERGE = "application/merge-patch+json"


def own_address(server_url):
    """The address of ours from which the server is reached, which is the one by which it reaches us, if any is."""
    host, _, port = server_url.partition("://")[2].partition("/")[0].rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host or "127.0.0.1", int(port or 443)))
        return probe.getsockname()[0]


class Hook:
    def __init__(self):
        self.asked = []
        self.answer = lambda request: {"allowed": True}

    async def serve(self, request):
        asked = (await request.json())["request"]
        self.asked.append(asked)
        response = {"uid": asked["uid"]} | self.answer(asked)
        if "patch" in response:
            patch = base64.b64encode(json.dumps(response["patch"]).encode()).decode()
            response |= {"patch": patch, "patchType": "JSONPatch"}
        return web.json_response({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})


@pytest.fixture
async def hook(server, namespace, tmp_path, request):
    """A webhook that is asked about ConfigMaps of the law's namespace, by both kinds of configurations. A law may say more of it."""
    here = own_address(server.address.server)
    credentials = load_or_create(tmp_path / "hook", "hook", [here])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(credentials.serving_file)
    found = Hook()
    application = web.Application()
    application.router.add_post("/", found.serve)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, here, 0, ssl_context=context).start()
    webhook = {
        "name": "law.example.com",
        "clientConfig": {
            "url": f"https://{here}:{runner.addresses[0][1]}/",
            "caBundle": base64.b64encode(credentials.ca_pem.encode()).decode(),
        },
        "rules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 5,
    }
    webhook |= getattr(request, "param", {})
    name = f"law-{secrets.token_hex(4)}"
    made = []
    for kind in ("mutatingwebhookconfigurations", "validatingwebhookconfigurations"):
        await server.made(f"{HOOKS}/{kind}", {"metadata": {"name": name}, "webhooks": [webhook]})
        made.append(f"{HOOKS}/{kind}/{name}")
    try:
        await _require_reach(server, namespace, found)
        yield found
    finally:
        for path in made:
            await server.call("DELETE", path)
        await runner.cleanup()


async def _require_reach(server, namespace, hook):
    """The question: does a dry run reach the webhook? A server may need a moment to know of it."""
    for _ in range(200):
        body = {"metadata": {"name": "reach"}}
        answer = await server.call("POST", f"/api/v1/namespaces/{namespace}/configmaps", body, dryRun="All")
        if answer.code == 500:
            assert not server.is_embedded, answer.text
            pytest.skip(f"the server cannot reach a webhook on this machine: {answer.body['message']}")
        if len(hook.asked) >= 2:
            hook.asked.clear()
            return
    raise AssertionError("webhooks are not asked")


async def test_a_mutating_webhook_changes_what_is_stored_and_a_validating_one_sees_it(server, maps, hook):
    patch = [{"op": "add", "path": "/data", "value": {"added": "x"}}]
    hook.answer = lambda asked: {"allowed": True, "patch": patch} if not asked["object"].get("data") else {"allowed": True}  # fmt: skip

    made = await server.made(maps, {"metadata": {"name": "a"}})

    assert made["data"] == {"added": "x"}
    assert [asked["object"].get("data") for asked in hook.asked] == [None, {"added": "x"}]


async def test_a_webhook_refuses_with_its_own_words(server, maps, hook):
    hook.answer = lambda _: {"allowed": False, "status": {"code": 403, "reason": "Forbidden", "message": "not here"}}

    refused = await server.call("POST", maps, {"metadata": {"name": "a"}})

    assert (refused.code, refused.body["reason"]) == (403, "Forbidden")
    assert refused.body["message"] == 'admission webhook "law.example.com" denied the request: not here'
    assert (await server.get(f"{maps}/a")).code == 404


async def test_a_webhook_is_told_what_was_and_what_will_be(server, maps, hook):
    await server.made(maps, {"metadata": {"name": "a"}, "data": {"x": "1"}})
    await server.call("PATCH", f"{maps}/a", {"data": {"x": "2"}}, content_type=MERGE, dryRun="All")
    await server.call("DELETE", f"{maps}/a")

    operations = [asked["operation"] for asked in hook.asked]
    assert operations == ["CREATE", "CREATE", "UPDATE", "UPDATE", "DELETE", "DELETE"]
    update, delete = hook.asked[2], hook.asked[4]
    assert (update["oldObject"]["data"], update["object"]["data"], update["dryRun"]) == ({"x": "1"}, {"x": "2"}, True)
    assert (delete["oldObject"]["data"], delete["object"]) == ({"x": "1"}, None)


def on(*expressions, **more):
    conditions = [{"name": f"condition-{n}", "expression": each} for n, each in enumerate(expressions)]
    return {"matchConditions": conditions} | more


@pytest.mark.parametrize(
    "hook",
    [
        on(
            "object == null || !has(object.data) || object.data['x.y'] == '1'",
            "!has(oldObject.data) || request.operation != 'UPDATE' || oldObject.data != object.data",
            "request.kind.kind == 'ConfigMap' && request.resource.version == 'v1' && request.userInfo.groups.size() > 0",
        )
    ],
    indirect=True,
)
async def test_a_webhook_is_asked_if_all_its_conditions_are_true(server, maps, hook):
    await server.made(maps, {"metadata": {"name": "a"}, "data": {"x.y": "1"}})
    await server.made(maps, {"metadata": {"name": "b"}, "data": {"x.y": "2"}})
    await server.call("PATCH", f"{maps}/a", {"metadata": {"labels": {"new": "x"}}}, content_type=MERGE)
    await server.call("PATCH", f"{maps}/b", {"data": {"x.y": "1"}}, content_type=MERGE)
    await server.call("DELETE", f"{maps}/b")

    asked = [(each["operation"], each["name"]) for each in hook.asked]
    assert asked == [(operation, name) for operation, name in (("CREATE", "a"), ("UPDATE", "b"), ("DELETE", "b")) for _ in range(2)]  # fmt: skip


UNKNOWN = "request.dryRun || object.data.colour == 'red'"


@pytest.mark.parametrize("hook", [on(UNKNOWN)], indirect=True)
async def test_a_condition_that_cannot_be_told_stops_the_change(server, maps, hook):
    stopped = await server.call("POST", maps, {"metadata": {"name": "a"}})

    assert (stopped.code, stopped.body["reason"], hook.asked) == (403, "Forbidden", [])
    assert stopped.body["message"].startswith(f"configmaps \"a\" is forbidden: expression '{UNKNOWN}' resulted in error: ")  # fmt: skip


@pytest.mark.parametrize("hook", [on(UNKNOWN, failurePolicy="Ignore")], indirect=True)
async def test_a_condition_that_cannot_be_told_is_no_hindrance_if_failures_are_ignored(server, maps, hook):
    await server.made(maps, {"metadata": {"name": "a"}})

    assert hook.asked == []


@pytest.mark.parametrize("hook", [on(UNKNOWN, "request.dryRun")], indirect=True)
async def test_a_condition_that_is_false_settles_it(server, maps, hook):
    await server.made(maps, {"metadata": {"name": "a"}})

    assert hook.asked == []


@pytest.mark.parametrize(
    ("condition", "place"),
    [
        ({"name": "a", "expression": "object."}, "expression"),
        ({"name": "a", "expression": "1 + 'a' == 2"}, "expression"),
        ({"name": "a", "expression": "object.data.on"}, "expression"),
        ({"name": "a", "expression": "size(object)"}, "expression"),
        ({"name": "a", "expression": "variables.a == 1"}, "expression"),
        ({"name": "a", "expression": "request.user == 'me'"}, "expression"),
        ({"name": "a", "expression": ""}, "expression"),
        ({"name": "", "expression": "true"}, "name"),
        ({"name": "a b", "expression": "true"}, "name"),
    ],
    ids=lambda value: value.get("expression") if isinstance(value, dict) else value,
)
async def test_a_condition_that_cannot_be_asked_is_refused(server, condition, place):
    webhook = {
        "name": "law.example.com",
        "clientConfig": {"url": "https://127.0.0.1/"},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "matchConditions": [condition],
    }
    body = {"metadata": {"name": f"law-{secrets.token_hex(4)}"}, "webhooks": [webhook]}

    refused = await server.call("POST", f"{HOOKS}/validatingwebhookconfigurations", body, dryRun="All")

    field = f"webhooks[0].matchConditions[0].{place}"
    assert (refused.code, [cause["field"] for cause in refused.body["details"]["causes"]]) == (422, [field])


async def test_a_webhooks_warnings_are_passed_on(server, maps, hook):
    hook.answer = lambda _: {"allowed": True, "warnings": ["mind the gap"]}

    made = await server.call("POST", maps, {"metadata": {"name": "a"}})

    assert made.warnings == ['299 - "mind the gap"']
