"""Kubeconfigs: where an API server is and how to prove who we are.

Two kinds of source, two levels of trust. The user's own file may name other files and run credential plugins. A kubeconfig that arrived in a
remote secret may do neither: whoever writes the secret could otherwise read files of, or run programs in, the control plane.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml


class BadKubeconfig(ValueError):
    """A kubeconfig that cannot be used; the text says which part."""


class InteractiveMode(StrEnum):
    """Whether a credential plugin may ask whoever sits at the terminal."""

    NEVER = "Never"
    IF_AVAILABLE = "IfAvailable"
    ALWAYS = "Always"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecPlugin:
    """A program that gives credentials. `provide_cluster`: it is told which API server they are for."""

    command: str
    arguments: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    api_version: str = "client.authentication.k8s.io/v1"
    interactive_mode: InteractiveMode = InteractiveMode.IF_AVAILABLE
    install_hint: str = ""
    provide_cluster: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Impersonation:
    """Whom we act for. `extra` are keys with their values, sorted."""

    user: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiAddress:
    """One API server and credentials for it. PEM texts are inline; `token_file` is read again for each request."""

    server: str
    ca_pem: str = ""
    insecure: bool = False
    tls_server_name: str = ""
    proxy_url: str = ""
    token: str = ""
    token_file: str = ""
    client_certificate_pem: str = ""
    client_key_pem: str = ""
    username: str = ""
    password: str = ""
    impersonate: Impersonation | None = None
    exec_plugin: ExecPlugin | None = None

    def __repr__(self) -> str:
        """Without credentials: this value ends up in logs."""
        return f"ApiAddress({self.server!r})"


_RISKS = {
    "exec": "exec",
    "client-key": "clientKey",
    "client-certificate": "clientCertificate",
    "tokenFile": "tokenFile",
}
"""Fields of a user that would run programs or read files here, with the word by which an operator accepts the risk (Istio's words)."""


def load_file(path: Path, context: str = "") -> ApiAddress:
    """The user's own kubeconfig; the current context unless one is named. Raises BadKubeconfig, OSError."""
    return address_of(path.read_text(), context, base=path.parent)


def address_of(text: str, context: str = "", *, base: Path | None = None) -> ApiAddress:
    """From the text of a trusted kubeconfig. Relative paths in it are relative to `base`. Raises BadKubeconfig."""
    return _address_in(_document(text), context, base)


def in_cluster(environment: Mapping[str, str], directory: Path) -> ApiAddress | None:
    """How a Pod reaches its own cluster: the token there is renewed by the kubelet, and read again for each request.

    None outside of a cluster. Raises OSError for a Pod without a service account's files.
    """
    host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        return None
    name = f"[{host}]" if ":" in host else host
    return ApiAddress(
        server=f"https://{name}:{port}",
        ca_pem=(directory / "ca.crt").read_text(),
        token_file=str(directory / "token"),
    )


SERVICE_ACCOUNT_DIRECTORY = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def load_merged(paths: Sequence[Path], context: str = "") -> ApiAddress:
    """Several files of the user's own as one, as kubectl reads KUBECONFIG: of each name the first counts, files that are not there are
    passed over, and paths are relative to the file that they are in. Raises BadKubeconfig, OSError.
    """
    return _address_in(_merged(paths), context, None)


def context_names(paths: Sequence[Path]) -> list[str]:
    """Of several files read as one; none where no file is there. Raises BadKubeconfig, OSError."""
    there = [path for path in paths if path.exists()]
    return [str(entry["name"]) for entry in _merged(there)["contexts"] if entry.get("name")] if there else []


def _merged(paths: Sequence[Path]) -> dict[str, Any]:
    documents = [(path.parent, _document(path.read_text())) for path in paths if path.exists()]
    if not documents:
        raise FileNotFoundError(f"none of these files is there: {', '.join(map(str, paths))}")
    merged: dict[str, Any] = {"clusters": [], "users": [], "contexts": []}
    for base, document in documents:
        merged["current-context"] = merged.get("current-context") or document.get("current-context")
        for plural in ("clusters", "users", "contexts"):
            known = {entry.get("name") for entry in merged[plural]}
            found = [_object(entry, plural) for entry in _list(document.get(plural), plural)]
            merged[plural] += [_based(entry, base) for entry in found if entry.get("name") not in known]
    return merged


_PATHS = ("certificate-authority", "client-certificate", "client-key", "tokenFile")


def _based(entry: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """The entry with its paths made absolute."""
    found = dict(entry)
    for singular in ("cluster", "user"):
        part = _object(found.get(singular), singular)
        if part:
            told: dict[str, Any] = {name: _path(part[name], base) for name in _PATHS if part.get(name)}
            plugin = _object(part.get("exec"), "user.exec")
            if plugin.get("command"):
                told["exec"] = {**plugin, "command": _program(str(plugin["command"]), base)}
            found[singular] = {**part, **told}
    return found


def _address_in(document: Mapping[str, Any], context: str, base: Path | None) -> ApiAddress:
    cluster, user = _parts(document, context)
    plugin = _object(user.get("exec"), "user.exec")
    return ApiAddress(
        server=_server(cluster),
        ca_pem=_inline_or_file(cluster, "certificate-authority", base),
        insecure=_flag(cluster, "insecure-skip-tls-verify"),
        tls_server_name=_text(cluster, "tls-server-name"),
        proxy_url=_proxy(cluster),
        token=_token(user),
        token_file=_path(user.get("tokenFile"), base),
        client_certificate_pem=_inline_or_file(user, "client-certificate", base),
        client_key_pem=_inline_or_file(user, "client-key", base),
        username=_text(user, "username"),
        password=_text(user, "password"),
        impersonate=_impersonation(user),
        exec_plugin=_plugin(plugin, base) if plugin else None,
    )


def address_from_secret(text: str, *, allowed: Collection[str] = ()) -> ApiAddress:
    """From a kubeconfig in a remote secret: only what it holds inline. Raises BadKubeconfig naming the field that is not allowed.

    `allowed` are words of PILOT_INSECURE_MULTICLUSTER_KUBECONFIG_OPTIONS: risks that the operator has accepted.
    """
    cluster, user = _parts(_document(text), "")
    for name, risk in _RISKS.items():
        if user.get(name) and risk not in allowed:
            raise BadKubeconfig(
                f"user.{name} is not allowed in a remote secret: it would read files or run programs here"
            )
    provider = _text(_object(user.get("auth-provider"), "user.auth-provider"), "name")
    if provider and provider != "oidc" and provider not in allowed:
        raise BadKubeconfig(f"auth provider {provider} is not allowed in a remote secret: only oidc is")
    if cluster.get("certificate-authority"):
        raise BadKubeconfig("cluster.certificate-authority names a file here: use certificate-authority-data")
    return address_of(text)


def cluster_named_in(text: str) -> str:
    """What the cluster of a kubeconfig is called: by its current context, else by its first context, else its first cluster, by name.

    Raises BadKubeconfig.
    """
    document = _document(text)
    contexts = _named(document, "contexts", "context")
    clusters = _named(document, "clusters", "cluster")
    current = str(document.get("current-context") or "")
    if current and current not in contexts:
        raise BadKubeconfig(f"no context {current!r}; there is: {', '.join(sorted(contexts)) or 'none'}")
    chosen = contexts[current] if current else contexts[min(contexts)] if contexts else {}
    name = str(chosen.get("cluster", "")) or min(clusters, default="")
    if not name:
        raise BadKubeconfig("no cluster in it")
    return name


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthPlugin:
    """A way for the reader of a kubeconfig to get a credential by itself: an auth-provider and its settings."""

    name: str
    config: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextEntry:
    """One context of a kubeconfig that is written."""

    name: str
    server: str
    ca_pem: str
    token: str
    tls_server_name: str = ""
    plugin: AuthPlugin | None = None
    """Instead of the token."""


def render(entries: Sequence[ContextEntry]) -> str:
    """A kubeconfig with a cluster, a user and a context for each entry, all of its name; the first is current."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": entry.name, "cluster": _cluster(entry)} for entry in entries],
        "users": [{"name": entry.name, "user": _user(entry)} for entry in entries],
        "contexts": [{"name": entry.name, "context": {"cluster": entry.name, "user": entry.name}} for entry in entries],
        "current-context": entries[0].name if entries else "",
    }
    return str(yaml.safe_dump(document, sort_keys=False))


def _user(entry: ContextEntry) -> dict[str, Any]:
    if entry.plugin is None:
        return {"token": entry.token}
    return {"auth-provider": {"name": entry.plugin.name, "config": dict(entry.plugin.config)}}


def _cluster(entry: ContextEntry) -> dict[str, str]:
    cluster = {"server": entry.server, "certificate-authority-data": base64.b64encode(entry.ca_pem.encode()).decode()}
    if entry.tls_server_name:
        cluster["tls-server-name"] = entry.tls_server_name
    return cluster


def _document(text: str) -> Mapping[str, Any]:
    try:
        document = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadKubeconfig(f"not YAML: {error}") from None
    if not isinstance(document, Mapping):
        raise BadKubeconfig("not a kubeconfig: the document is not an object")
    return document


def _parts(document: Mapping[str, Any], context: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    name = context or str(document.get("current-context") or "")
    contexts = _named(document, "contexts", "context")
    if not name and len(contexts) == 1:
        name = next(iter(contexts))
    if name not in contexts:
        known = ", ".join(sorted(contexts)) or "none"
        raise BadKubeconfig(f"no context {name!r}; there is: {known}")
    chosen = contexts[name]
    cluster = _named(document, "clusters", "cluster").get(str(chosen.get("cluster", "")))
    if cluster is None:
        raise BadKubeconfig(f"context {name!r} names cluster {chosen.get('cluster')!r}, which is not there")
    return cluster, _named(document, "users", "user").get(str(chosen.get("user", "")), {})


def _named(document: Mapping[str, Any], plural: str, singular: str) -> dict[str, Mapping[str, Any]]:
    entries = [_object(entry, plural) for entry in _list(document.get(plural), plural)]
    return {str(entry.get("name", "")): _object(entry.get(singular), f"{plural}: {singular}") for entry in entries}


def _object(value: object, what: str) -> Mapping[str, Any]:
    if value is not None and not isinstance(value, Mapping):
        raise BadKubeconfig(f"{what} is not an object")
    return value or {}


def _list(value: object, what: str) -> Sequence[Any]:
    if value is not None and not isinstance(value, list):
        raise BadKubeconfig(f"{what} is not a list")
    return value or []


def _plugin(plugin: Mapping[str, Any], base: Path | None) -> ExecPlugin:
    command = _text(plugin, "command")
    if not command:
        raise BadKubeconfig("user.exec has no command")
    version = _text(plugin, "apiVersion") or ExecPlugin(command=command).api_version
    if version not in _EXEC_VERSIONS:
        raise BadKubeconfig(f"user.exec.apiVersion {version!r} is none of {', '.join(_EXEC_VERSIONS)}")
    mode = _text(plugin, "interactiveMode") or InteractiveMode.IF_AVAILABLE
    if mode not in tuple(InteractiveMode):
        raise BadKubeconfig(f"user.exec.interactiveMode {mode!r} is none of {', '.join(InteractiveMode)}")
    entries = [_object(found, "user.exec.env") for found in _list(plugin.get("env"), "user.exec.env")]
    return ExecPlugin(
        command=_program(command, base),
        arguments=tuple(map(str, _list(plugin.get("args"), "user.exec.args"))),
        environment=tuple((_text(entry, "name"), _text(entry, "value")) for entry in entries),
        api_version=version,
        interactive_mode=InteractiveMode(mode),
        install_hint=_text(plugin, "installHint"),
        provide_cluster=_flag(plugin, "provideClusterInfo"),
    )


_EXEC_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")


def _program(command: str, base: Path | None) -> str:
    """A bare name is looked for in PATH; a path is relative to the kubeconfig."""
    return _path(command, base) if "/" in command else command


def _impersonation(user: Mapping[str, Any]) -> Impersonation | None:
    extra = _object(user.get("as-user-extra"), "user.as-user-extra")
    found = Impersonation(
        user=_text(user, "as"),
        uid=_text(user, "as-uid"),
        groups=tuple(map(str, _list(user.get("as-groups"), "user.as-groups"))),
        extra=tuple(
            sorted((str(key), tuple(map(str, _list(values, "user.as-user-extra")))) for key, values in extra.items())
        ),
    )
    return None if found == Impersonation() else found


def _text(part: Mapping[str, Any], field: str) -> str:
    """What is left empty is not there."""
    value = part.get(field)
    return "" if value is None else str(value)


def _flag(part: Mapping[str, Any], field: str) -> bool:
    """Only true is true: whoever writes "false" in quotes must not lose the check of the server."""
    value = part.get(field)
    if value is not None and not isinstance(value, bool):
        raise BadKubeconfig(f"{field} {value!r} is neither true nor false")
    return bool(value)


def _token(user: Mapping[str, Any]) -> str:
    """Its own, or the one that an OpenID Connect login has left (which is not renewed here: nobody can be asked to log in)."""
    provider = _object(user.get("auth-provider"), "user.auth-provider")
    login = _object(provider.get("config"), "user.auth-provider.config") if provider.get("name") == "oidc" else {}
    token = _text(user, "token").strip() or _text(login, "id-token").strip()
    if not token.isprintable():
        raise BadKubeconfig("user.token has characters that no token has")
    return token


def _proxy(cluster: Mapping[str, Any]) -> str:
    proxy = _text(cluster, "proxy-url")
    if proxy and not proxy.startswith(("https://", "http://")):
        raise BadKubeconfig(f"cluster.proxy-url {proxy!r} is not an http(s) URL")
    return proxy


def _server(cluster: Mapping[str, Any]) -> str:
    server = _text(cluster, "server")
    if not server.startswith(("https://", "http://")):
        raise BadKubeconfig(f"cluster.server {server!r} is not an http(s) URL")
    return server.rstrip("/")


def _inline_or_file(part: Mapping[str, Any], field: str, base: Path | None) -> str:
    data = part.get(f"{field}-data")
    if data:
        try:
            return base64.b64decode(str(data), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise BadKubeconfig(f"{field}-data is not base64 of PEM text") from None
    path = _path(part.get(field), base)
    return Path(path).read_text() if path else ""


def _path(value: object, base: Path | None) -> str:
    if not value:
        return ""
    path = Path(str(value))
    return str(path if path.is_absolute() or base is None else base / path)
