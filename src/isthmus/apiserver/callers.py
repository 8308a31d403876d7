"""Who is asking: by token, by client certificate, or as somebody else if that is allowed."""

from __future__ import annotations

import time

from aiohttp import web

from isthmus.apiserver.access import ANONYMOUS, Access, Attributes, User
from isthmus.apiserver.status import bad_request, unauthorized


def user_of(request: web.Request, access: Access) -> User:
    """By token, else by TLS client certificate, else anonymous. Raises Refused for a token that is not valid here."""
    authorization = request.headers.get("Authorization", "")
    if authorization.lower().startswith("bearer "):
        token = authorization[7:].strip()
        user = access.user_of_token(token, int(time.time())) if token.isascii() else None
        if user is None:
            raise unauthorized()
    else:
        user = _user_of_certificate(request) or ANONYMOUS
    wanted = request.headers.get("Impersonate-User")
    groups = tuple(request.headers.getall("Impersonate-Group", []))
    if not wanted and groups:
        raise bad_request("requested groups without impersonating a user")
    return _impersonated(user, wanted, groups, access) if wanted else user


def _impersonated(user: User, wanted: str, groups: tuple[str, ...], access: Access) -> User:
    """Whoever acts for somebody else must be allowed each part of it: groups, too, are power."""
    account = wanted.removeprefix("system:serviceaccount:").split(":")
    if wanted.startswith("system:serviceaccount:") and len(account) == 2:
        namespace, name = account
        access.require(user, Attributes(verb="impersonate", resource="serviceaccounts", namespace=namespace, name=name))
        implied: tuple[str, ...] = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
    else:
        access.require(user, Attributes(verb="impersonate", resource="users", name=wanted))
        implied = ()
    for group in groups:
        access.require(user, Attributes(verb="impersonate", resource="groups", name=group))
    return User(wanted, (*groups, *implied, "system:authenticated"))


def _user_of_certificate(request: web.Request) -> User | None:
    """CN is the user, each O a group: the certificate was verified by TLS."""
    transport = request.transport
    certificate = transport.get_extra_info("peercert") if transport is not None else None
    if not certificate:
        return None
    fields = [pair for part in certificate.get("subject", ()) for pair in part]
    name = next((value for key, value in fields if key == "commonName"), "")
    groups = tuple(value for key, value in fields if key == "organizationName")
    return User(name, (*groups, "system:authenticated")) if name else None
