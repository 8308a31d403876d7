"""Kubeconfigs: what the user's own file may do, and what one from a remote secret may not."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from isthmus.kubernetes.kubeconfig import (
    ApiAddress,
    BadKubeconfig,
    ContextEntry,
    ExecPlugin,
    Impersonation,
    InteractiveMode,
    address_from_secret,
    address_of,
    load_file,
    load_merged,
    render,
)

SERVER = "https://10.0.0.1:6443"


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def kubeconfig(user: Any = None, cluster: Any = None, **top: Any) -> str:
    document = {
        "clusters": [{"name": "c", "cluster": {"server": SERVER} | (cluster or {})}],
        "users": [{"name": "u", "user": user or {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    return yaml.safe_dump(document | top)


INLINE = kubeconfig(
    {"token": "t", "client-certificate-data": b64("CERT"), "client-key-data": b64("KEY")},
    {"certificate-authority-data": b64("CA"), "tls-server-name": "api", "proxy-url": "http://proxy:3128"},
)


@pytest.mark.parametrize("read", [address_of, address_from_secret])
def test_what_is_inline_is_taken_from_both(read):
    assert read(INLINE) == ApiAddress(
        server=SERVER,
        ca_pem="CA",
        tls_server_name="api",
        proxy_url="http://proxy:3128",
        token="t",
        client_certificate_pem="CERT",
        client_key_pem="KEY",
    )


def test_the_users_own_file_may_name_files_relative_to_itself_and_run_a_plugin(tmp_path):
    (tmp_path / "ca.pem").write_text("CA")
    (tmp_path / "key.pem").write_text("KEY")
    user = {
        "client-key": str(tmp_path / "key.pem"),
        "tokenFile": "token",
        "exec": {"command": "aws", "args": ["eks", "get-token"], "env": [{"name": "A", "value": "1"}]},
    }
    (tmp_path / "config").write_text(kubeconfig(user, {"certificate-authority": "ca.pem"}))

    address = load_file(tmp_path / "config")

    assert (address.ca_pem, address.client_key_pem) == ("CA", "KEY")
    assert address.token_file == str(tmp_path / "token")
    assert address.exec_plugin == ExecPlugin(command="aws", arguments=("eks", "get-token"), environment=(("A", "1"),))


@pytest.mark.parametrize(
    ("user", "cluster", "named"),
    [
        ({"exec": {"command": "sh", "args": ["-c", "id"]}}, {}, "user.exec"),
        ({"tokenFile": "/etc/shadow"}, {}, "user.tokenFile"),
        ({"client-key": "/etc/key"}, {}, "user.client-key"),
        ({"client-certificate": "/etc/cert"}, {}, "user.client-certificate"),
        ({"auth-provider": {"name": "gcp"}}, {}, "auth provider gcp"),
        ({"token": "t"}, {"certificate-authority": "/etc/ca"}, "cluster.certificate-authority"),
    ],
)
def test_a_secret_may_not_reach_into_the_control_plane(user, cluster, named):
    """Refused whatever else it holds, and before anything is read or run."""
    with pytest.raises(BadKubeconfig, match=named):
        address_from_secret(kubeconfig({"token": "t"} | user, cluster))


def test_a_secret_may_do_what_the_operator_allows():
    text = kubeconfig({"exec": {"command": "aws", "args": ["eks"]}})

    assert address_from_secret(text, allowed=["exec"]).exec_plugin == ExecPlugin(command="aws", arguments=("eks",))
    with pytest.raises(BadKubeconfig):
        address_from_secret(text, allowed=["tokenFile"])


def test_an_oidc_provider_is_no_reason_to_refuse():
    assert address_from_secret(kubeconfig({"auth-provider": {"name": "oidc"}, "token": "t"})).token == "t"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not a kubeconfig"),
        ("- a", "not a kubeconfig"),
        ("a: [", "not YAML"),
        (kubeconfig(**{"current-context": "y"}), "no context 'y'; there is: x"),
        (kubeconfig(clusters=[]), "names cluster 'c', which is not there"),
        (kubeconfig(clusters="c"), "clusters"),
        (kubeconfig(clusters=7), "clusters is not a list"),
        (kubeconfig(cluster={"server": "ftp://x"}), "not an http"),
        (kubeconfig(cluster={"server": ""}), "not an http"),
        (kubeconfig(cluster={"certificate-authority-data": "%%%"}), "certificate-authority-data is not base64"),
        (kubeconfig(cluster={"proxy-url": "socks5://x"}), "proxy-url 'socks5://x' is not an http"),
        (kubeconfig(cluster={"insecure-skip-tls-verify": "false"}), "insecure-skip-tls-verify"),
        (kubeconfig({"token": "a\nb"}), "user.token"),
        (kubeconfig(clusters=[{"name": "c", "cluster": "text"}]), "cluster"),
        (kubeconfig(contexts=[{"name": "x", "context": ["c"]}]), "context"),
        (kubeconfig(users=[{"name": "u", "user": "me"}]), "user"),
        (kubeconfig({"exec": "aws"}), "exec"),
        (kubeconfig({"exec": {"args": ["x"]}}), "exec"),
        (kubeconfig({"exec": {"command": "x", "apiVersion": "v0"}}), "user.exec.apiVersion 'v0' is none of"),
        (kubeconfig({"exec": {"command": "x", "interactiveMode": "Maybe"}}), "interactiveMode 'Maybe' is none of"),
        (kubeconfig({"as-groups": "admins"}), "as-groups is not a list"),
        (kubeconfig({"auth-provider": "gcp"}), "auth-provider"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_part_that_is_wrong(text, says):
    with pytest.raises(BadKubeconfig, match=says):
        address_from_secret(text, allowed=["exec"])


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["c", "u", "x", SERVER]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                ["name", "cluster", "user", "context", "server", "exec", "command", "args", "env", "token"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["clusters", "users", "contexts", "current-context"]), plain))
def test_any_document_is_an_address_or_refused(top):
    try:
        address_from_secret(kubeconfig(**top), allowed=["exec"])
    except BadKubeconfig:
        return


@given(plain, plain)
def test_any_cluster_and_user_is_an_address_or_refused(user, cluster):
    document = {
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    }
    try:
        address_from_secret(yaml.safe_dump(document), allowed=["exec"])
    except BadKubeconfig:
        return


def test_the_only_context_needs_no_name_and_one_of_several_may_be_chosen():
    entries = [ContextEntry(name=n, server=f"https://{n}:6443", ca_pem="CA", token=n) for n in ("east", "west")]
    both = render(entries)

    assert address_of(render(entries[1:]).replace("current-context: west", "")).server == "https://west:6443"
    assert address_of(both).token == "east"
    assert address_of(both, "west").token == "west"


def test_what_is_rendered_is_read_back():
    entry = ContextEntry(name="east", server=SERVER, ca_pem="CA", token="t", tls_server_name="api")

    assert address_from_secret(render([entry])) == ApiAddress(
        server=SERVER, ca_pem="CA", token="t", tls_server_name="api"
    )


def test_what_is_left_empty_is_not_there():
    text = kubeconfig({"token": None}, {"tls-server-name": None, "proxy-url": None, "insecure-skip-tls-verify": None})

    assert address_from_secret(text) == ApiAddress(server=SERVER)


def test_a_token_written_as_a_block_of_text_has_no_line_end():
    assert address_from_secret(kubeconfig({"token": "t\n"})).token == "t"


def test_an_address_does_not_show_its_credentials():
    assert repr(address_of(INLINE)) == f"ApiAddress('{SERVER}')"


def test_what_a_plugin_is_told_is_read():
    plugin = {
        "command": "./login",
        "apiVersion": "client.authentication.k8s.io/v1beta1",
        "interactiveMode": "Never",
        "installHint": "get it",
        "provideClusterInfo": True,
    }

    assert address_of(kubeconfig({"exec": plugin}), base=Path("/home/me")).exec_plugin == ExecPlugin(
        command="/home/me/login",
        api_version="client.authentication.k8s.io/v1beta1",
        interactive_mode=InteractiveMode.NEVER,
        install_hint="get it",
        provide_cluster=True,
    )


def test_other_ways_to_say_who_one_is_are_read():
    user = {"username": "u", "password": "p", "as": "jane", "as-groups": ["a"], "as-user-extra": {"k": ["v"]}}

    address = address_from_secret(kubeconfig(user))

    assert (address.username, address.password) == ("u", "p")
    assert address.impersonate == Impersonation(user="jane", groups=("a",), extra=(("k", ("v",)),))
    login = {"auth-provider": {"name": "oidc", "config": {"id-token": "i"}}}
    assert address_from_secret(kubeconfig(login)).token == "i"


def test_several_files_are_one_and_the_first_to_say_something_counts(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ca.pem").write_text(f"CA {name}")
    only_context = {"current-context": "x", "clusters": [], "users": [], "contexts": []}
    (tmp_path / "one" / "config").write_text(
        kubeconfig({"token": "first"}, {"certificate-authority": "ca.pem"}, contexts=[], **{"current-context": ""})
    )
    (tmp_path / "two" / "config").write_text(kubeconfig({"token": "second"}, {"certificate-authority": "ca.pem"}))
    (tmp_path / "three").write_text(yaml.safe_dump(only_context))

    paths = [tmp_path / "missing", tmp_path / "one" / "config", tmp_path / "two" / "config", tmp_path / "three"]
    address = load_merged(paths)

    assert (address.ca_pem, address.token) == ("CA one", "first")
    assert load_merged(paths[2:]).ca_pem == "CA two"
    with pytest.raises(FileNotFoundError, match="missing"):
        load_merged(paths[:1])
