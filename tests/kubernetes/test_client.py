"""What goes out, what comes back, and what is raised when it goes wrong."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from isthmus.kubernetes.client import JSON_PATCH, ApiClient
from isthmus.kubernetes.errors import (
    AlreadyExists,
    ApiError,
    ApiUnavailable,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    KubernetesError,
    NotFound,
    NotNow,
    Unauthorized,
)
from isthmus.kubernetes.kubeconfig import ApiAddress
from isthmus.kubernetes.resources import CONFIG_MAPS, NAMESPACES
from isthmus.model.identity import TrustDomain
from isthmus.trust.authority import CertificateAuthority


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (401, "Unauthorized", Unauthorized),
        (403, "Forbidden", Forbidden),
        (404, "NotFound", NotFound),
        (409, "AlreadyExists", AlreadyExists),
        (409, "Conflict", Conflict),
        (410, "Expired", Gone),
        (422, "Invalid", Invalid),
        (429, "TooManyRequests", NotNow),
        (500, "InternalError", ApiError),
    ],
)
async def test_a_refusal_is_raised_as_what_it_is_with_what_was_being_done(server, client, answers, code, reason, kind):
    server.next_answers.append(answers.status(code, reason, "because"))

    with pytest.raises(ApiError) as refused:
        await client.get(CONFIG_MAPS, "a", "ns")

    assert type(refused.value) is kind
    assert (refused.value.status, refused.value.reason, refused.value.message) == (code, reason, "because")
    assert "GET" in str(refused.value)
    assert "/api/v1/namespaces/ns/configmaps/a" in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("body", ["<html>bad gateway</html>", "", "[]", "7"])
async def test_a_refusal_that_is_not_kubernetes_own_is_a_refusal_all_the_same(server, client, answers, body):
    server.next_answers.append(answers.text(body, 502))

    with pytest.raises(ApiError) as refused:
        await client.get(CONFIG_MAPS, "a", "ns")

    assert (refused.value.status, refused.value.message) == (502, body)


@pytest.mark.parametrize("body", ["<html>log in first</html>", "", "[]"])
async def test_an_answer_that_is_not_an_object_is_no_answer(server, client, answers, body):
    server.next_answers.append(answers.text(body))

    with pytest.raises(ApiUnavailable, match="is not a JSON object"):
        await client.list_objects(CONFIG_MAPS)


async def test_a_connection_that_breaks_is_no_answer(server, client, answers):
    # The HTTP library tries once more by itself.
    server.next_answers.extend([answers.hang_up, answers.hang_up])

    with pytest.raises(ApiUnavailable):
        await client.list_objects(CONFIG_MAPS)


async def test_a_server_that_is_not_there_is_no_answer():
    async with ApiClient(ApiAddress(server="http://127.0.0.1:1")) as client:
        with pytest.raises(
            ApiUnavailable, match=r"GET http://127\.0\.0\.1:1/readyz: no connection to 127\.0\.0\.1:1: "
        ):
            await client.read("/readyz")
        with pytest.raises(ApiUnavailable, match="watch"):
            await anext(client.lines("/api/v1/pods", {"watch": "true"}, idle_seconds=5))


async def test_a_watch_gives_whole_lines_and_not_the_one_that_was_cut_off(server, client, answers):
    server.next_answers.append(answers.text("one\n\ntwo\nthr"))

    batches = [batch async for batch in client.lines("/api/v1/pods", {"watch": "true"}, idle_seconds=5)]

    assert [line for batch in batches for line in batch] == [b"one", b"two"]


async def test_a_watch_that_is_silent_for_too_long_is_no_answer(server, client, answers):
    server.next_answers.append(answers.silence)
    batches = client.lines("/api/v1/pods", {"watch": "true"}, idle_seconds=0.05)

    accepted = await anext(batches)
    with pytest.raises(ApiUnavailable, match=r"watch .*: no answer in time$"):
        await anext(batches)

    assert accepted == []


async def test_a_watch_that_is_refused_is_raised_as_what_it_is(server, client, answers):
    server.next_answers.append(answers.status(410, "Expired", "too old"))

    with pytest.raises(Gone, match="watch"):
        await anext(client.lines("/api/v1/pods", {"watch": "true"}, idle_seconds=5))


@pytest.mark.parametrize("address", [{"token": "a\nb"}, {"server": f"http://{'a' * 300}"}, {"token_file": "folded"}])
async def test_what_cannot_be_asked_at_all_is_an_error_of_ours(server, listen, tmp_path, address):
    (tmp_path / "folded").write_text("a\nb")
    if "token_file" in address:
        address = {"token_file": str(tmp_path / "folded")}
    async with listen(server) as url, ApiClient(ApiAddress(**{"server": url} | address)) as client:
        with pytest.raises(KubernetesError):
            await client.read("/readyz")
        with pytest.raises(KubernetesError):
            await anext(client.lines("/api/v1/pods", {"watch": "true"}, idle_seconds=5))


async def test_each_verb_has_its_method_path_and_body(server, client, answers):
    server.next_answers.extend([answers.text("{}")] * 5)

    await client.create(CONFIG_MAPS, {"data": {}}, "ns")
    await client.replace(CONFIG_MAPS, {"metadata": {"name": "a", "namespace": "ns"}}, "status")
    await client.patch(CONFIG_MAPS, "a", [], "ns", kind=JSON_PATCH)
    await client.delete(CONFIG_MAPS, "a", "ns", grace_seconds=0)
    await client.get(NAMESPACES, "ns")

    assert [(request.method, request.path, request.content_type) for request in server.requests] == [
        ("POST", "/api/v1/namespaces/ns/configmaps", "application/json"),
        ("PUT", "/api/v1/namespaces/ns/configmaps/a/status", "application/json"),
        ("PATCH", "/api/v1/namespaces/ns/configmaps/a", "application/json-patch+json"),
        ("DELETE", "/api/v1/namespaces/ns/configmaps/a", "application/json"),
        ("GET", "/api/v1/namespaces/ns", "application/octet-stream"),
    ]
    assert {request.headers["Authorization"] for request in server.requests} == {"Bearer secret"}


async def test_a_token_file_is_read_again_for_each_request(server, listen, tmp_path):
    file = tmp_path / "token"
    async with (
        listen(server) as url,
        ApiClient(ApiAddress(server=url, token_file=str(file))) as client,
    ):
        for token in ("one", "two\n"):
            file.write_text(token)
            await client.list_objects(CONFIG_MAPS)
        file.unlink()
        with pytest.raises(KubernetesError, match="token"):
            await client.list_objects(CONFIG_MAPS)

    assert [request.headers["Authorization"] for request in server.requests] == ["Bearer one", "Bearer two"]


async def test_a_server_is_believed_only_if_its_authority_is_the_one_in_the_kubeconfig(server, listen, tmp_path):
    now = datetime.now(UTC) - timedelta(minutes=1)
    ours, other = (CertificateAuthority.self_signed(TrustDomain.parse("cluster.local"), now) for _ in range(2))
    shown = ours.serving_certificate(["127.0.0.1", "api.example.com"], now)
    file: Path = tmp_path / "serving.pem"
    file.write_text(shown.key_pem + shown.chain_pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file)
    good = {"ca_pem": "# Müller's authority\n" + ours.root_pem}
    listed = []

    async with listen(server, context) as url:
        for address in (good, good | {"tls_server_name": "api.example.com"}, {"insecure": True}):
            async with ApiClient(ApiAddress(server=url, **address)) as client:
                listed.append(await client.list_objects(CONFIG_MAPS))
        for address in ({"ca_pem": other.root_pem}, good | {"tls_server_name": "elsewhere.example.com"}):
            async with ApiClient(ApiAddress(server=url, **address)) as client:
                with pytest.raises(ApiUnavailable, match="the server's certificate is not trusted: "):
                    await client.list_objects(CONFIG_MAPS)

    assert len(listed) == 3
