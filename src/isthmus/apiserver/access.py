"""Who may do what: authentication by token or certificate, authorization by RBAC."""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from typing import Any

import msgspec

from isthmus.apiserver.kinds import BUILT_IN, Kind
from isthmus.apiserver.status import Refused
from isthmus.apiserver.store import Store
from isthmus.apiserver.tokens import ISSUER, Claims, Tokens

_BY_NAME = {kind.name: kind for kind in BUILT_IN}
_ROLE, _CLUSTER_ROLE = _BY_NAME["Role"], _BY_NAME["ClusterRole"]
_ROLE_BINDING, _CLUSTER_ROLE_BINDING = _BY_NAME["RoleBinding"], _BY_NAME["ClusterRoleBinding"]
_SERVICE_ACCOUNT, _POD, _SECRET = _BY_NAME["ServiceAccount"], _BY_NAME["Pod"], _BY_NAME["Secret"]

_RBAC = (_ROLE, _CLUSTER_ROLE, _ROLE_BINDING, _CLUSTER_ROLE_BINDING)
_DECISIONS_MAX = 4096

MASTERS = "system:masters"
AUTHENTICATED = "system:authenticated"


class User(msgspec.Struct, frozen=True):
    """Who is asking."""

    name: str
    groups: tuple[str, ...]
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = {"username": self.name, "groups": list(self.groups)}
        if self.uid:
            document["uid"] = self.uid
        if self.extra:
            document["extra"] = {key: list(values) for key, values in self.extra}
        return document


ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))


class Attributes(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for: a resource, or a path that is none."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""

    @property
    def full_resource(self) -> str:
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


class Access:
    """Reads roles, bindings and service accounts from the store: a change counts from the next request on."""

    def __init__(self, store: Store, tokens: Tokens, admin_token: str) -> None:
        self._store = store
        self._tokens = tokens
        self._admin_token = admin_token.encode()
        self._admin = User("kubernetes-admin", (MASTERS, AUTHENTICATED))
        self._decisions: dict[tuple[str, tuple[str, ...], Attributes], bool] = {}
        self._decided_by: tuple[int, ...] = ()
        """The roles and bindings that the decisions were made with."""

    def user_of_token(self, token: str, now: int, audience: str = ISSUER) -> User | None:
        """None for a token that is not valid here for the audience."""
        if hmac.compare_digest(token.encode(), self._admin_token):
            return self._admin
        claims = self._tokens.verified(token, now)
        if claims is None or audience not in claims.get("aud", ()):
            return None
        return self.user_of_claims(claims)

    def user_of_claims(self, claims: Claims) -> User | None:
        """None if the service account is gone, or the Pod or Secret that the token was for; another one of the same name is another one."""
        bound = claims.get("kubernetes.io", {})
        namespace, account = bound.get("namespace", ""), bound.get("serviceaccount", {})
        stored = self._store.find(_SERVICE_ACCOUNT, (namespace, account.get("name", "")))
        if stored is None or stored.obj["metadata"]["uid"] != account.get("uid"):
            return None
        for kind in (_POD, _SECRET):
            holder = bound.get(kind.singular)
            if holder is not None:
                stored = self._store.find(kind, (namespace, holder.get("name", "")))
                if stored is None or stored.obj["metadata"]["uid"] != holder.get("uid"):
                    return None
        extra: list[tuple[str, tuple[str, ...]]] = [
            ("authentication.kubernetes.io/credential-id", (f"JTI={claims.get('jti', '')}",))
        ]
        extra += [
            (f"authentication.kubernetes.io/{name}-{field}", (str(bound[name][field]),))
            for name in ("pod", "node")
            for field in ("name", "uid")
            if bound.get(name, {}).get(field)
        ]
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", AUTHENTICATED)
        return User(str(claims["sub"]), groups, str(account["uid"]), tuple(extra))

    def reviewed(self, token: str, audiences: list[str], now: int) -> dict[str, Any]:
        """A TokenReview's status: the intersection of audiences, or why not."""
        if hmac.compare_digest(token.encode(), self._admin_token) and not audiences:
            return {"authenticated": True, "user": self._admin.document}
        claims = self._tokens.verified(token, now)
        if claims is None:
            return {"authenticated": False, "user": {}, "error": "invalid bearer token"}
        shared = [audience for audience in audiences or [ISSUER] if audience in claims.get("aud", ())]
        if not shared:
            return {
                "authenticated": False,
                "user": {},
                "error": f"token audiences {claims.get('aud')} do not fit {audiences}",
            }
        user = self.user_of_claims(claims)
        if user is None:
            return {
                "authenticated": False,
                "user": {},
                "error": "the service account, Pod or Secret of the token is gone",
            }
        return {"authenticated": True, "user": user.document, "audiences": shared}

    def allows(self, user: User, wanted: Attributes) -> bool:
        if MASTERS in user.groups:
            return True
        decided_by = tuple(self._store.changes(kind) for kind in _RBAC)
        if decided_by != self._decided_by or len(self._decisions) >= _DECISIONS_MAX:
            self._decisions.clear()
            self._decided_by = decided_by
        key = (user.name, user.groups, wanted)
        decision = self._decisions.get(key)
        if decision is None:
            decision = any(_rule_allows(rule, wanted) for rule in self.rules(user, wanted.namespace))
            self._decisions[key] = decision
        return decision

    def require(self, user: User, wanted: Attributes) -> None:
        """Raises Refused (Forbidden)."""
        if not self.allows(user, wanted):
            raise Refused(403, "Forbidden", forbidden_message(user, wanted))

    def rules(self, user: User, namespace: str) -> Iterator[dict[str, Any]]:
        """Every rule that applies to the user in the namespace (empty: cluster-wide only)."""
        for binding in self._store.items(_CLUSTER_ROLE_BINDING):
            if _binds(binding.obj, user):
                yield from self.rules_of(binding.obj["roleRef"], "")
        if namespace:
            for binding in self._store.items(_ROLE_BINDING, namespace):
                if _binds(binding.obj, user):
                    yield from self.rules_of(binding.obj["roleRef"], namespace)

    def rules_of(self, reference: dict[str, Any], namespace: str) -> Iterator[dict[str, Any]]:
        """What a role says that a binding refers to; nothing for one that is not there."""
        kind: Kind = _CLUSTER_ROLE if reference.get("kind") == "ClusterRole" else _ROLE
        where = "" if kind is _CLUSTER_ROLE else namespace
        role = self._store.find(kind, (where, reference.get("name", "")))
        if role is not None:
            yield from role.obj.get("rules") or ()


def forbidden_message(user: User, wanted: Attributes) -> str:
    """As a real server says it, because people search for it."""
    if wanted.path:
        return f'forbidden: User "{user.name}" cannot {wanted.verb} path "{wanted.path}"'
    qualified = f"{wanted.resource}.{wanted.group}" if wanted.group else wanted.resource
    name = f' "{wanted.name}"' if wanted.name else ""
    scope = f'in the namespace "{wanted.namespace}"' if wanted.namespace else "at the cluster scope"
    return (
        f'{qualified}{name} is forbidden: User "{user.name}" cannot {wanted.verb} resource "{wanted.full_resource}" '
        f'in API group "{wanted.group}" {scope}'
    )


def _binds(binding: dict[str, Any], user: User) -> bool:
    for subject in binding.get("subjects") or ():
        match subject.get("kind"):
            case "User" if subject.get("name") == user.name:
                return True
            case "Group" if subject.get("name") in user.groups:
                return True
            case "ServiceAccount":
                namespace = subject.get("namespace") or binding["metadata"].get("namespace", "")
                if user.name == f"system:serviceaccount:{namespace}:{subject.get('name')}":
                    return True
    return False


def _rule_allows(rule: dict[str, Any], wanted: Attributes) -> bool:
    if not _covers(rule.get("verbs"), wanted.verb):
        return False
    if wanted.path:
        return any(_path_covers(pattern, wanted.path) for pattern in rule.get("nonResourceURLs") or ())
    names = rule.get("resourceNames")
    return (
        _covers(rule.get("apiGroups"), wanted.group)
        and any(_resource_covers(pattern, wanted) for pattern in rule.get("resources") or ())
        and (not names or wanted.name in names)
    )


def _covers(patterns: list[str] | None, value: str) -> bool:
    return any(pattern in ("*", value) for pattern in patterns or ())


def _resource_covers(pattern: str, wanted: Attributes) -> bool:
    if pattern in ("*", wanted.full_resource):
        return True
    resource, slash, subresource = pattern.partition("/")
    return (
        bool(slash)
        and bool(wanted.subresource)
        and resource in ("*", wanted.resource)
        and subresource in ("*", wanted.subresource)
    )


def _path_covers(pattern: str, path: str) -> bool:
    return pattern in ("*", path) or (pattern.endswith("*") and path.startswith(pattern[:-1]))
