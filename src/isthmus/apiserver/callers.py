"""Who is asking: by token, by client certificate, or as somebody else if that is allowed."""

from __future__ import annotations

import time
from urllib.parse import unquote

from aiohttp import web

from isthmus.apiserver.access import ANONYMOUS, AUTHENTICATED, Access, Attributes, User
from isthmus.apiserver.status import bad_request, unauthorized

_AUTHENTICATION = "authentication.k8s.io"
_EXTRA = "impersonate-extra-"


def caller_of(request: web.BaseRequest, access: Access) -> User:
    """By token, else by TLS client certificate, else anonymous. Raises Refused for a token that is not valid here."""
    authorization = request.headers.get("Authorization", "")
    if authorization.lower().startswith("bearer "):
        token = authorization[7:].strip()
        user = access.user_of_token(token, int(time.time())) if token.isascii() else None
        if user is None:
            raise unauthorized()
    else:
        user = _user_of_certificate(request) or ANONYMOUS
    return user


def acting(request: web.BaseRequest, user: User, access: Access) -> User:
    """Mostly the caller himself. Whoever acts for somebody else must be allowed each part of it: groups, too, are power. Raises Refused."""
    if "impersonate-" not in "\n".join(request.headers).lower():
        return user
    wanted = request.headers.get("Impersonate-User")
    groups = tuple(request.headers.getall("Impersonate-Group", []))
    uid = request.headers.get("Impersonate-Uid", "")
    extra = _extra(request)
    if not wanted:
        if groups or uid or extra:
            raise bad_request("requested groups, uid or extra without impersonating a user")
        return user
    account = wanted.removeprefix("system:serviceaccount:").split(":")
    implied: tuple[str, ...] = ()
    if wanted.startswith("system:serviceaccount:") and len(account) == 2:
        namespace, name = account
        access.require(user, _act("serviceaccounts", name, namespace=namespace))
        if not groups:
            implied = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
    else:
        access.require(user, _act("users", wanted))
    for group in groups:
        access.require(user, _act("groups", group))
    if uid:
        access.require(user, _act("uids", uid, group=_AUTHENTICATION))
    for key, values in extra:
        for value in values:
            access.require(user, _act("userextras", value, group=_AUTHENTICATION, subresource=key))
    everybody = AUTHENTICATED if wanted != ANONYMOUS.name else ANONYMOUS.groups[0]
    named = (*groups, *implied)
    return User(wanted, named if everybody in named else (*named, everybody), uid, extra)


def _extra(request: web.BaseRequest) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Keys are written as percent-encoded ends of header names."""
    found: dict[str, list[str]] = {}
    for name, value in request.headers.items():
        if name.lower().startswith(_EXTRA):
            found.setdefault(unquote(name[len(_EXTRA) :]).lower(), []).append(value)
    return tuple((key, tuple(values)) for key, values in found.items())


def _act(resource: str, name: str, *, namespace: str = "", group: str = "", subresource: str = "") -> Attributes:
    return Attributes(
        verb="impersonate", group=group, resource=resource, subresource=subresource, namespace=namespace, name=name
    )


def _user_of_certificate(request: web.BaseRequest) -> User | None:
    """CN is the user, each O a group: the certificate was verified by TLS."""
    transport = request.transport
    certificate = transport.get_extra_info("peercert") if transport is not None else None
    if not certificate:
        return None
    fields = [pair for part in certificate.get("subject", ()) for pair in part]
    name = next((value for key, value in fields if key == "commonName"), "")
    groups = tuple(value for key, value in fields if key == "organizationName")
    return User(name, (*groups, AUTHENTICATED)) if name else None
