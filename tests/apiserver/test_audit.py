"""The audit trail: who changed what and who was refused, without a word of what was written; bounded on disk."""

from __future__ import annotations

import errno
import json
import os
import stat
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from isthmus.apiserver.access import Attributes, User
from isthmus.apiserver.audit import Asked, AuditLog, event_of, files_in, is_told
from isthmus.cli.app import isthmus

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


def events(server, **wanted):
    """Of the server's log, those whose object is this one."""
    lines = (server.directory / "audit.log").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    return [each for each in found if wanted.items() <= (each.get("objectRef") or {}).items()]


async def test_a_change_is_told_with_who_what_when_and_from_where(server, api, namespace):
    secret = {"metadata": {"name": "s"}, "stringData": {"password": "hunter2"}}
    await api.made(f"/api/v1/namespaces/{namespace}/secrets", secret)
    await api.call("DELETE", f"/api/v1/namespaces/{namespace}/secrets/s")

    created, deleted = events(server, namespace=namespace, resource="secrets")

    assert (created["verb"], deleted["verb"]) == ("create", "delete")
    assert created["objectRef"] == {"resource": "secrets", "namespace": namespace, "name": "s", "apiVersion": "v1"}
    assert created["user"]["username"] == "kubernetes-admin"
    assert created["responseStatus"]["code"] == 201
    assert created["sourceIPs"] == ["127.0.0.1"]
    assert created["annotations"] == {"authorization.k8s.io/decision": "allow"}
    assert created["requestReceivedTimestamp"] <= created["stageTimestamp"] <= deleted["requestReceivedTimestamp"]
    assert (created["apiVersion"], created["kind"], created["level"]) == ("audit.k8s.io/v1", "Event", "Metadata")


async def test_no_body_is_in_the_log_and_nobody_else_reads_it(server, api, namespace):
    text = "aHVudGVyMi1zZWNyZXQ="
    await api.made(f"/api/v1/namespaces/{namespace}/secrets", {"metadata": {"name": "s"}, "data": {"key": text}})
    merge = "application/merge-patch+json"
    path = f"/api/v1/namespaces/{namespace}/secrets/s"
    await api.call("PATCH", path, {"data": {"other": text}}, content_type=merge)

    log = server.directory / "audit.log"

    assert [each["verb"] for each in events(server, namespace=namespace, resource="secrets")] == ["create", "patch"]
    assert text not in log.read_text()
    assert server.admin_token not in log.read_text()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


async def test_who_acts_for_somebody_else_is_named_beside_him_and_a_refusal_is_told(server, api, namespace):
    """A developer of one namespace (T2): what he may not do in another one is refused, and known."""
    await api.made(
        f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings",
        {
            "metadata": {"name": "dev"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "isthmus-developer"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ann"}],
        },
    )
    service = {"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}
    codes = {}
    for where in (namespace, "default"):
        answer = await api.call(
            "POST", f"/api/v1/namespaces/{where}/services", service, headers={"Impersonate-User": "ann"}
        )
        codes[where] = answer.code

    mine = [
        each
        for each in events(server, resource="services")
        if each.get("impersonatedUser", {}).get("username") == "ann"
    ]

    assert codes == {namespace: 201, "default": 403}
    assert [(each["objectRef"]["namespace"], each["responseStatus"]["code"]) for each in mine] == [
        (namespace, 201),
        ("default", 403),
    ]
    assert [each["annotations"]["authorization.k8s.io/decision"] for each in mine] == ["allow", "forbid"]
    assert {each["user"]["username"] for each in mine} == {"kubernetes-admin"}


async def test_a_token_that_is_not_valid_is_told_and_a_read_is_not(server, api, namespace):
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    assert (await api.call("GET", path, token="made-up")).code == 401
    assert (await api.get(path)).code == 200

    found = [each for each in events(server) if each["requestURI"].startswith(path)]

    assert [(each["verb"], each["user"], each["responseStatus"]["code"]) for each in found] == [("get", {}, 401)]
    assert "made-up" not in json.dumps(found)


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ({"verb": "update", "group": "coordination.k8s.io", "resource": "leases"}, False),
        ({"verb": "create", "resource": "events"}, False),
        ({"verb": "patch", "resource": "pods", "subresource": "status"}, False),
        ({"verb": "create", "group": "authentication.k8s.io", "resource": "tokenreviews"}, False),
        ({"verb": "create", "group": "shop.example", "resource": "codereviews"}, True),
        ({"verb": "list", "resource": "secrets"}, False),
        ({"verb": "create", "resource": "serviceaccounts", "subresource": "token"}, True),
        ({"verb": "deletecollection", "resource": "pods"}, True),
    ],
)
def test_what_components_say_all_the_time_is_left_out_unless_it_is_refused(what, told):
    asked = request(**what)

    assert is_told(asked, 200) is told
    assert is_told(asked, 403)


def request(**what):
    asked = Asked(received=NOW, method="POST", uri="/x", source="10.0.0.1", agent="kubectl/1")
    asked.user, asked.attributes, asked.allowed = User("ann", ("dev",)), Attributes(**what), True
    return asked


def written(name):
    return event_of(request(verb="create", resource="pods", namespace="shop", name=name), 201, NOW)


def test_the_files_are_bounded_and_the_oldest_goes(tmp_path):
    log = AuditLog(tmp_path, bytes_max=4000)
    for number in range(100):
        log.write(written(f"p{number}"))
    log.close()

    files = files_in(tmp_path)
    names = [json.loads(line)["objectRef"]["name"] for file in files for line in file.read_text().splitlines()]

    assert [file.name for file in files] == ["audit.log.3", "audit.log.2", "audit.log.1", "audit.log"]
    assert all(file.stat().st_size <= 4000 for file in files)
    assert names == [f"p{number}" for number in range(100 - len(names), 100)]


def test_a_disk_that_is_full_when_a_new_file_is_due_costs_no_older_one(tmp_path, monkeypatch):
    log = AuditLog(tmp_path, bytes_max=1500)
    for number in range(12):
        log.write(written(f"p{number}"))
    before = [file.read_text() for file in files_in(tmp_path)]
    assert len(before) == 4

    with monkeypatch.context() as full:
        full.setattr("os.open", refusing)
        for _ in range(20):
            log.write(written("lost"))
    during = [file.read_text() for file in files_in(tmp_path)]
    log.write(written("after"))
    log.close()

    assert during == before[1:], "the oldest has gone, as for any new file"
    assert [json.loads(line)["objectRef"]["name"] for line in (tmp_path / "audit.log").open()] == ["after"]


def refusing(*_arguments):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_an_event_for_which_the_disk_has_room_in_part_is_taken_back(tmp_path, monkeypatch):
    log = AuditLog(tmp_path)
    log.write(written("one"))
    write = os.write
    with monkeypatch.context() as full:
        full.setattr("os.write", lambda descriptor, data: write(descriptor, data[:100]))
        log.write(written("two"))
    log.write(written("three"))
    log.close()

    names = [json.loads(line)["objectRef"]["name"] for line in (tmp_path / "audit.log").open()]
    assert names == ["one", "three"]


def test_a_log_goes_on_where_it_was_after_a_restart(tmp_path):
    for name in ("before", "after"):
        log = AuditLog(tmp_path)
        log.write(written(name))
        log.close()

    assert len((tmp_path / "audit.log").read_text().splitlines()) == 2


def command(*arguments):
    return CliRunner().invoke(isthmus, ["audit", *map(str, arguments)])


def test_the_command_shows_changes_by_namespace_user_kind_and_verb(tmp_path):
    log = AuditLog(tmp_path)
    log.write(written("one"))
    log.write(
        event_of(
            request(verb="delete", group="networking.istio.io", resource="virtualservices", namespace="bank", name="v"),
            403,
            NOW,
        )
    )
    log.write(event_of(request(verb="get", resource="pods", namespace="shop", name="read"), 200, NOW))
    log.close()
    file = tmp_path / "audit.log"

    def names(*filters):
        events = json.loads(command("-f", file, "-o", "json", *filters).output)["events"]
        return [each["objectRef"]["name"] for each in events]

    assert names() == ["one", "v"]
    assert names("-n", "bank") == ["v"]
    assert names("--kind", "VirtualService") == ["v"]
    assert names("--user", "nobody") == []
    assert names("--verb", "get") == ["read"]
    assert names("--tail", 1) == ["v"]
    table = command("-f", file).output.splitlines()
    assert table[1].split() == [
        "2026-01-02T03:04:05",
        "ann",
        "create",
        "pods",
        "shop/one",
        "201",
        "10.0.0.1",
        "kubectl/1",
        "<none>",
    ]


def test_a_line_that_is_no_event_is_told_and_hides_no_other(tmp_path):
    torn, whole = tmp_path / "x.log", tmp_path / "audit.log"
    torn.write_text('{"stage": "RequestReceived"}\nnonsense\nmore of it\n')
    log = AuditLog(tmp_path)
    log.write(written("one"))
    log.close()

    found = command("-f", torn, "-f", whole, "-o", "json")

    assert found.exit_code != 0
    assert [each["objectRef"]["name"] for each in json.loads(found.stdout)["events"]] == ["one"]
    assert [line.partition(": ")[0] for line in found.stderr.splitlines()] == [f"{torn}:2"]
