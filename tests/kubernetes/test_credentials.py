"""Credentials: files, plugins, and what they give until when."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime, timedelta

import pytest

from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.credentials import Credentials
from isthmus.kubernetes.errors import KubernetesError, Unauthorized
from isthmus.kubernetes.kubeconfig import ApiAddress, ExecPlugin, Impersonation, InteractiveMode
from isthmus.kubernetes.resources import CONFIG_MAPS

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
COUNTING = """
import json, os, sys
path, expires = sys.argv[1:]
with open(path, "a") as file: file.write("run\\n")
number = len(open(path).readlines())
print(json.dumps({"status": {"token": f"token-{number}", "expirationTimestamp": expires or None}}))
"""


def counting(tmp_path, expires: str = "") -> ExecPlugin:
    """Gives a token with the number of its run in it."""
    return ExecPlugin(command=sys.executable, arguments=("-c", COUNTING, str(tmp_path / "runs"), expires))


def python(program: str, **how) -> ApiAddress:
    plugin = ExecPlugin(command=sys.executable, arguments=("-c", program), **how)
    return ApiAddress(server="https://127.0.0.1:1", ca_pem="", proxy_url="http://proxy", exec_plugin=plugin)


async def authorization(credentials: Credentials) -> str:
    return dict(await credentials.headers())["Authorization"]


async def test_a_plugin_is_run_once_by_however_many_and_again_when_what_it_gave_has_ended(tmp_path):
    now = NOON
    address = ApiAddress(server="https://x", exec_plugin=counting(tmp_path, "2026-01-01T13:00:00Z"))
    credentials = Credentials(address, lambda: now)

    first = await asyncio.gather(*(authorization(credentials) for _ in range(5)))
    now = NOON + timedelta(minutes=59)
    second = await authorization(credentials)
    now = NOON + timedelta(minutes=60)
    third = await authorization(credentials)

    assert {*first, second} == {"Bearer token-1"}
    assert third == "Bearer token-2"


async def test_a_clock_that_jumps_back_costs_nothing_and_one_that_jumps_ahead_a_run(tmp_path):
    now = NOON
    address = ApiAddress(server="https://x", exec_plugin=counting(tmp_path, "2026-01-01T13:00:00Z"))
    credentials = Credentials(address, lambda: now)
    seen = [await authorization(credentials)]

    for days in (-365, 0, 365):
        now = NOON + timedelta(days=days)
        seen.append(await authorization(credentials))

    assert seen == ["Bearer token-1", "Bearer token-1", "Bearer token-1", "Bearer token-2"]


async def test_what_the_server_refuses_is_not_used_again(tmp_path, server, listen, answers):
    async with (
        listen(server) as url,
        ApiClient(ApiAddress(server=url, exec_plugin=counting(tmp_path))) as client,
    ):
        await client.list_objects(CONFIG_MAPS)
        server.next_answers.append(answers.status(401, "Unauthorized"))
        with pytest.raises(Unauthorized):
            await client.list_objects(CONFIG_MAPS)
        await client.list_objects(CONFIG_MAPS)

    sent = [request.headers["Authorization"] for request in server.requests]
    assert sent == ["Bearer token-1", "Bearer token-1", "Bearer token-2"]


async def test_a_plugin_has_its_environment_and_is_told_what_is_asked_of_it():
    program = (
        "import json, os; e = os.environ;"
        "print(json.dumps({'status': {'token': e['WORD'] + ' ' + e['KUBERNETES_EXEC_INFO']}}))"
    )
    address = python(
        program, environment=(("WORD", "mellon"),), provide_cluster=True, interactive_mode=InteractiveMode.NEVER
    )

    word, _, info = (await authorization(Credentials(address))).removeprefix("Bearer ").partition(" ")

    assert word == "mellon"
    assert json.loads(info) == {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "spec": {"interactive": False, "cluster": {"server": "https://127.0.0.1:1", "proxy-url": "http://proxy"}},
    }


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (
            ApiAddress(server="https://x", exec_plugin=ExecPlugin(command="no-such-program", install_hint="Get it.\n")),
            "credential plugin no-such-program cannot be run: No such file or directory; Get it.",
        ),
        (python("import sys; sys.exit('log in first')"), "failed with 1: log in first"),
        (python("print('{}')"), "gave neither a token nor a certificate"),
        (python("print('hello')"), "gave no credential"),
        (python('print(\'{"status":{"token":"t","expirationTimestamp":"2026-01-01T00:00:00"}}\')'), "time zone"),
        (python("", interactive_mode=InteractiveMode.ALWAYS), "wants to ask somebody, and there is no terminal"),
    ],
)
async def test_a_plugin_that_gives_nothing_is_named_with_what_ails_it(address, said, monkeypatch):
    monkeypatch.setattr("sys.stdin", None)

    with pytest.raises(KubernetesError) as told:
        await Credentials(address).headers()

    assert said in str(told.value)


async def test_a_plugin_may_give_a_certificate():
    status = {"status": {"clientCertificateData": "CERT", "clientKeyData": "KEY"}}
    credentials = Credentials(python(f"print({json.dumps(json.dumps(status))})"))

    assert await credentials.certificate() == ("CERT", "KEY")
    assert await credentials.headers() == []


async def test_a_password_and_whom_one_acts_for_are_said():
    who = Impersonation(user="jane", uid="7", groups=("a", "b"), extra=(("k", ("v",)),))
    address = ApiAddress(server="https://x", username="u", password="p", impersonate=who)

    assert await Credentials(address).headers() == [
        ("Authorization", "Basic dTpw"),
        ("Impersonate-User", "jane"),
        ("Impersonate-Uid", "7"),
        ("Impersonate-Group", "a"),
        ("Impersonate-Group", "b"),
        ("Impersonate-Extra-k", "v"),
    ]
