"""Laws of certificates that are asked for through the API: who asks, who approves, who signs."""

from __future__ import annotations

import base64
import secrets
from datetime import UTC, datetime, timedelta

import pytest

from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.trust import x509
from isthmus.trust.authority import CertificateAuthority

CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
GROUP = "rbac.authorization.k8s.io"
SIGNER = "law.example/workloads"
APPROVED = {"type": "Approved", "status": "True", "reason": "Law", "message": "by a law"}
DOMAIN = TrustDomain.parse("law.example")
AUTHORITY = CertificateAuthority.self_signed(DOMAIN, datetime.now(UTC))
MERGE = "application/merge-patch+json"


def encoded(pem: str) -> str:
    return base64.b64encode(pem.encode()).decode()


def request(**said):
    """A new one, which nobody else has asked for."""
    spec = {
        "request": encoded(x509.new_request(x509.new_key())),
        "signerName": SIGNER,
        "usages": ["digital signature", "key encipherment", "server auth", "client auth"],
        "expirationSeconds": 3600,
    }
    return {"metadata": {"name": f"law-{secrets.token_hex(6)}"}, "spec": spec | said}


def issued(made) -> str:
    """What a signer would put into the status."""
    pem = base64.b64decode(made["spec"]["request"]).decode()
    identity = SpiffeId.of_service_account(DOMAIN, "law", "law")
    return encoded(AUTHORITY.sign(pem, identity, datetime.now(UTC), timedelta(hours=1))[0])


@pytest.fixture
async def asked(server):
    """Makes requests, which go after the law."""
    made = []

    async def ask(call=server.call, **said):
        answer = await call("POST", CSRS, request(**said))
        if answer.code == 201:
            made.append(answer.body["metadata"]["name"])
        return answer

    yield ask
    for name in made:
        await server.call("DELETE", f"{CSRS}/{name}")


@pytest.fixture
async def robot(server, namespace, becomes):
    """A service account that may write requests and all their parts; `grant` binds it to more."""
    accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    await server.made(accounts, {"metadata": {"name": "robot"}})
    answer = await server.call("POST", f"{accounts}/robot/token", {"spec": {"expirationSeconds": 3600}})
    token = answer.body["status"]["token"]
    made = []

    async def grant(*rules):
        name = f"law-{secrets.token_hex(6)}"
        made.append(name)
        await server.made(f"{RBAC}/clusterroles", {"metadata": {"name": name}, "rules": list(rules)})
        binding = {
            "metadata": {"name": name},
            "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": "robot", "namespace": namespace}],
        }
        await server.made(f"{RBAC}/clusterrolebindings", binding)

    async def call(method, path, body=None, **parameters):
        return await server.call(method, path, body, headers={"Authorization": f"Bearer {token}"}, **parameters)

    resources = [f"certificatesigningrequests{part}" for part in ("", "/approval", "/status")]
    await grant({"apiGroups": ["certificates.k8s.io"], "resources": resources, "verbs": ["*"]})
    await becomes(403, lambda: call("GET", CSRS))
    call.grant = grant
    yield call
    for name in made:
        for plural in ("clusterrolebindings", "clusterroles"):
            await server.call("DELETE", f"{RBAC}/{plural}/{name}")


async def approve(call, made):
    return await call(
        "PUT", f"{CSRS}/{made['metadata']['name']}/approval", made | {"status": {"conditions": [APPROVED]}}
    )


async def test_a_request_is_its_callers_whatever_it_says(asked, robot, namespace):
    answer = await asked(robot, username="ann", groups=["system:masters"], uid="1", extra={"a": ["b"]})

    spec = answer.body["spec"]
    assert answer.code == 201
    assert spec["username"] == f"system:serviceaccount:{namespace}:robot"
    assert sorted(spec["groups"]) == [
        "system:authenticated", "system:serviceaccounts", f"system:serviceaccounts:{namespace}",
    ]  # fmt: skip
    assert spec["uid"] not in ("", "1")
    assert "a" not in spec.get("extra", {})


async def test_nobody_decides_about_his_request_by_making_it(server, asked):
    body = request() | {"status": {"conditions": [APPROVED], "certificate": encoded(AUTHORITY.root_pem)}}

    answer = await server.call("POST", CSRS, body)
    await server.call("DELETE", f"{CSRS}/{body['metadata']['name']}")

    assert (answer.code, answer.body.get("status", {})) == (201, {})


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"request": encoded("no request")}, "spec.request"),
        ({"request": encoded(AUTHORITY.root_pem)}, "spec.request"),
        ({"usages": []}, "spec.usages"),
        ({"usages": ["client auth", "world domination"]}, "spec.usages[1]"),
        ({"usages": ["client auth", "client auth"]}, "spec.usages[1]"),
        ({"signerName": ""}, "spec.signerName"),
        ({"signerName": "workloads"}, "spec.signerName"),
        ({"signerName": "example.com/a/b"}, "spec.signerName"),
        ({"signerName": "kubernetes.io/legacy-unknown"}, "spec.signerName"),
        ({"expirationSeconds": 599}, "spec.expirationSeconds"),
    ],
)
async def test_a_request_that_no_signer_could_fulfil_is_refused(asked, said, field):
    answer = await asked(**said)

    assert (answer.code, answer.body["reason"]) == (422, "Invalid")
    assert [cause["field"] for cause in answer.body["details"]["causes"]] == [field]


async def test_what_is_asked_for_stays_as_it_was_asked(server, asked):
    made = (await asked()).body
    path = f"{CSRS}/{made['metadata']['name']}"

    changed = await server.call("PATCH", path, {"spec": {"signerName": "other.example/all"}}, content_type=MERGE)
    approved = await approve(server.call, made | {"spec": made["spec"] | {"usages": ["any"]}})
    labelled = await server.call("PATCH", path, {"metadata": {"labels": {"a": "b"}}}, content_type=MERGE)

    assert [answer.code for answer in (changed, approved, labelled)] == [200, 200, 200]
    assert [answer.body["spec"] for answer in (changed, approved, labelled)] == [made["spec"]] * 3


async def test_approving_needs_a_right_on_the_signer(asked, robot, becomes):
    made = (await asked()).body

    refused = await approve(robot, made)
    signers = {"apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "verbs": ["approve"]}
    await robot.grant(signers | {"resourceNames": ["law.example/*"]})
    approved = await becomes(403, lambda: approve(robot, made))

    assert refused.code == 403
    assert f'user not permitted to approve requests with signerName "{SIGNER}"' in refused.body["message"]
    [condition] = approved.body["status"]["conditions"]
    assert (condition["type"], condition["reason"]) == ("Approved", "Law")
    assert condition["lastUpdateTime"]


async def test_signing_needs_another_right_on_the_signer(asked, robot, becomes):
    made = (await asked()).body
    signed = {"status": {"certificate": issued(made)}}
    path = f"{CSRS}/{made['metadata']['name']}/status"
    signers = {"apiGroups": ["certificates.k8s.io"], "resources": ["signers"]}
    await robot.grant(signers | {"verbs": ["approve"], "resourceNames": [SIGNER]})

    refused = await robot("PATCH", path, signed, content_type=MERGE)
    await robot.grant(signers | {"verbs": ["sign"], "resourceNames": [SIGNER]})
    answer = await becomes(403, lambda: robot("PATCH", path, signed, content_type=MERGE))

    assert refused.code == 403
    assert f'user not permitted to sign requests with signerName "{SIGNER}"' in refused.body["message"]
    assert answer.body["status"]["certificate"] == signed["status"]["certificate"]


async def test_a_right_on_one_signer_is_none_on_another(asked, robot, becomes):
    signers = {"apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "verbs": ["approve"]}
    await robot.grant(signers | {"resourceNames": [SIGNER]})
    mine, theirs = (await asked()).body, (await asked(signerName="other.example/workloads")).body

    await becomes(403, lambda: approve(robot, mine))

    assert (await approve(robot, theirs)).code == 403


async def test_a_decision_is_made_through_approval_and_is_final(server, asked):
    made = (await asked()).body
    path = f"{CSRS}/{made['metadata']['name']}"

    sneaked = await server.call("PATCH", f"{path}/status", {"status": {"conditions": [APPROVED]}}, content_type=MERGE)
    ignored = await server.call("PATCH", path, {"status": {"conditions": [APPROVED]}}, content_type=MERGE)
    approved = await approve(server.call, made)
    undone = await server.call("PATCH", f"{path}/approval", {"status": {"conditions": []}}, content_type=MERGE)
    both = {"status": {"conditions": [APPROVED, APPROVED | {"type": "Denied"}]}}
    denied_too = await server.call("PATCH", f"{path}/approval", both, content_type=MERGE)

    assert [answer.code for answer in (sneaked, ignored, approved, undone, denied_too)] == [422, 200, 200, 422, 422]
    assert 'updates may not add a condition of type "Approved"' in sneaked.body["message"]
    assert ignored.body.get("status", {}) == {}
    assert 'updates may not remove a condition of type "Approved"' in undone.body["message"]
    assert "Approved and Denied conditions are mutually exclusive" in denied_too.body["message"]


async def test_a_decision_is_true_or_is_none(server, asked):
    made = (await asked()).body
    half = {"status": {"conditions": [APPROVED | {"status": "Unknown"}]}}

    answer = await server.call("PATCH", f"{CSRS}/{made['metadata']['name']}/approval", half, content_type=MERGE)

    assert answer.code == 422
    assert answer.body["details"]["causes"][0]["field"] == "status.conditions[0].status"


async def test_a_certificate_is_put_in_once_by_the_signer_alone(server, asked):
    made = (await asked()).body
    path = f"{CSRS}/{made['metadata']['name']}"
    certificate = issued(made)

    async def put(where, value):
        return await server.call("PATCH", f"{path}{where}", {"status": {"certificate": value}}, content_type=MERGE)

    by_approver = await put("/approval", certificate)
    none = await put("/status", encoded("no certificate"))
    first = await put("/status", certificate)
    second = await put("/status", issued(made))

    assert [answer.code for answer in (by_approver, none, first, second)] == [200, 422, 200, 422]
    assert "certificate" not in by_approver.body.get("status", {})
    assert first.body["status"]["certificate"] == certificate
    assert "updates may not modify existing certificate content" in second.body["message"]


async def test_signers_find_their_own_requests(server, asked):
    mine, theirs = (await asked()).body, (await asked(signerName="other.example/workloads")).body

    found = await server.get(CSRS, fieldSelector=f"spec.signerName={SIGNER}")

    assert mine["metadata"]["name"] in found.names
    assert theirs["metadata"]["name"] not in found.names


async def test_nobody_asks_for_a_certificate_of_the_servers_masters(server):
    from cryptography import x509 as raw
    from cryptography.hazmat.primitives import hashes, serialization

    subject = raw.Name([raw.NameAttribute(raw.NameOID.ORGANIZATION_NAME, "system:masters")])
    csr = raw.CertificateSigningRequestBuilder().subject_name(subject).sign(x509.new_key(), hashes.SHA256())
    pem = csr.public_bytes(serialization.Encoding.PEM).decode()
    said = {"request": encoded(pem), "signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"]}

    answer = await server.call("POST", CSRS, request(**said))

    assert answer.code == 403
    assert "system:masters" in answer.body["message"]


async def test_a_table_says_who_asks_for_what_and_how_far_it_is(server, asked):
    made = (await asked()).body
    path = f"{CSRS}/{made['metadata']['name']}"
    table = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}

    async def condition():
        answer = await server.call("GET", path, headers=table)
        names = [column["name"] for column in answer.body["columnDefinitions"]]
        return dict(zip(names, answer.body["rows"][0]["cells"], strict=True))

    pending = await condition()
    await approve(server.call, made)
    approved = await condition()
    await server.call("PATCH", f"{path}/status", {"status": {"certificate": issued(made)}}, content_type=MERGE)

    assert list(pending) == ["Name", "Age", "SignerName", "Requestor", "RequestedDuration", "Condition"]
    assert (pending["SignerName"], pending["RequestedDuration"]) == (SIGNER, "60m")
    assert pending["Requestor"] == made["spec"]["username"]
    assert [pending["Condition"], approved["Condition"], (await condition())["Condition"]] == [
        "Pending", "Approved", "Approved,Issued",
    ]  # fmt: skip


async def test_a_decision_can_be_applied(server, asked):
    made = (await asked()).body
    name = made["metadata"]["name"]
    config = {
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name},
        "status": {"conditions": [APPROVED]},
    }  # fmt: skip

    answer = await server.call(
        "PATCH", f"{CSRS}/{name}/approval", config, content_type="application/apply-patch+yaml", fieldManager="law"
    )

    assert answer.code == 200
    assert [condition["type"] for condition in answer.body["status"]["conditions"]] == ["Approved"]
