"""AdmissionReviews, as an API server sends them, and what it is answered."""

from __future__ import annotations

import base64
import json
from functools import partial

import pytest

from isthmus.controlplane.admission import BadReview, injection, quota, review, validation
from isthmus.injection.settings import InjectionSettings

SETTINGS = InjectionSettings(
    cluster="east",
    network="n1",
    mesh="mesh1",
    trust_domain="cluster.local",
    system_namespace="istio-system",
    discovery_address="istiod.istio-system.svc:15012",
    image="isthmus/proxy:1",
)
POD = {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "app", "image": "i"}]}}


def asked(item, **request) -> bytes:
    said = {"uid": "u1", "operation": "CREATE", "namespace": "shop", "object": item, **request}
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": said}).encode()


def answered(body: bytes, decide) -> dict:
    found = json.loads(review(body, decide))
    assert (found["apiVersion"], found["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    assert found["response"]["uid"] == "u1"
    return found["response"]


def inject(pod, namespace):
    return injection(pod, namespace, SETTINGS)


def test_a_pod_is_answered_with_a_patch():
    found = answered(asked(POD), inject)

    patch = json.loads(base64.b64decode(found["patch"]))
    assert (found["allowed"], found["patchType"]) == (True, "JSONPatch")
    assert [(step["op"], step["path"]) for step in patch] == [
        ("add", "/metadata/annotations"),
        ("add", "/metadata/labels"),
        ("add", "/spec/initContainers"),
        ("add", "/spec/volumes"),
    ]


def test_a_pod_that_needs_nothing_says_why():
    found = answered(asked(POD | {"spec": {"hostNetwork": True}}), inject)

    assert found["allowed"]
    assert "patch" not in found
    assert "host's network" in found["auditAnnotations"]["left-as-it-is"]


def test_a_pod_that_asks_for_what_cannot_be_is_refused_and_told():
    wrong = {"metadata": {"annotations": {"traffic.sidecar.istio.io/excludeInboundPorts": "x"}}, "spec": POD["spec"]}

    found = answered(asked(wrong), inject)

    assert not found["allowed"]
    assert "excludeInboundPorts: 'x' is not a port" in found["status"]["message"]


def test_each_problem_of_an_object_is_a_cause():
    rule = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "a", "namespace": "shop"},
        "spec": {"hosts": ["a"], "bogus": 1, "http": "x"},
    }
    found = answered(asked(rule), validation)

    assert not found["allowed"]
    assert (found["status"]["code"], found["status"]["reason"]) == (422, "Invalid")
    causes = found["status"]["details"]["causes"]
    assert len(causes) == 2
    for word in ("bogus", "http"):
        assert word in found["status"]["message"]
        assert any(word in cause.get("field", "") + cause["message"] for cause in causes)


@pytest.mark.parametrize(
    "item",
    [
        {"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication", "metadata": {"name": "a"}, "spec": {}},
        {"apiVersion": "example.org/v1", "kind": "Mystery", "metadata": {"name": "a"}},
    ],
)
def test_what_is_right_or_not_ours_is_allowed(item):
    assert answered(asked(item), validation)["allowed"]


def test_what_is_deleted_is_let_go():
    """Also if it is wrong: nobody could get rid of it otherwise."""
    assert answered(asked(None, operation="DELETE"), validation) == {"uid": "u1", "allowed": True}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b"null",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"apiVersion":"v1","kind":"Pod"}',
        b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}',
        b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":1}}',
        b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"a","object":[]}}',
    ],
)
@pytest.mark.parametrize("decide", [inject, validation])
def test_what_is_no_review_is_refused(body, decide):
    with pytest.raises(BadReview):
        review(body, decide)


@pytest.mark.parametrize(
    "item", [{}, {"kind": 1}, {"metadata": []}, {"spec": {"containers": [1]}}, {"kind": "Sidecar"}]
)
@pytest.mark.parametrize("decide", [inject, validation])
def test_whatever_the_object_is_there_is_an_answer(item, decide):
    assert isinstance(answered(asked(item), decide)["allowed"], bool)


def test_one_more_than_the_namespace_may_have_is_forbidden_and_told_why():
    """The namespace is the request's: what the object says of it is the caller's word."""
    told = []

    def is_too_many(kind, obj):
        told.append((kind, obj.metadata.namespace, obj.metadata.name))
        return "there are 3"

    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "elsewhere"}, "spec": {}}
    found = answered(asked(service), partial(quota, is_too_many=is_too_many))

    assert told == [("Service", "shop", "web")]
    assert found["allowed"] is False
    assert found["status"] == {
        "status": "Failure",
        "code": 403,
        "reason": "Forbidden",
        "message": "exceeds a quota: there are 3",
    }


def test_what_cannot_be_read_or_is_no_kind_of_the_meshs_is_let_go_by_quotas():
    never = partial(quota, is_too_many=lambda *_: "never")

    for item in ({"apiVersion": "v1", "kind": "Service", "spec": 5}, {"apiVersion": "x/v1", "kind": "Y"}, {}):
        assert answered(asked(item), never) == {"uid": "u1", "allowed": True}


def test_an_answer_is_short_however_much_is_wrong():
    """API servers cut it off elsewhere, or not at all; people read the beginning."""
    routes = [{"match": [{"uri": {"suffix": "x"}}], "unheardOf" * 100: 1}] * 500
    rule = {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "a"}}

    found = answered(asked(rule | {"spec": {"hosts": ["a"], "http": routes}}), validation)

    assert not found["allowed"]
    assert len(found["status"]["details"]["causes"]) == 50
    assert found["status"]["message"].endswith("more")
    assert len(found.get("warnings", ())) <= 20
    assert max(map(len, found.get("warnings", [""]))) <= 256
