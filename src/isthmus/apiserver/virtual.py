"""Kinds that are asked, not kept: reviews of tokens and of access, and tokens for service accounts."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from isthmus.apiserver.access import Access, Attributes, User
from isthmus.apiserver.kinds import BUILT_IN, Kind
from isthmus.apiserver.objects import Objects
from isthmus.apiserver.status import bad_request, conflict, invalid, no_such_path
from isthmus.apiserver.tokens import ISSUER, SECONDS_MIN, Tokens

Object = dict[str, Any]

_SERVICE_ACCOUNT = next(kind for kind in BUILT_IN if kind.name == "ServiceAccount")
_POD = next(kind for kind in BUILT_IN if kind.name == "Pod")
_SECRET = next(kind for kind in BUILT_IN if kind.name == "Secret")
_TOKEN_REQUEST = Kind(
    group="authentication.k8s.io", version="v1", name="TokenRequest", plural="tokenrequests", namespaced=True
)
_SECONDS_DEFAULT = 3600


class Virtual:
    """Answers `create` of the review kinds, and of `serviceaccounts/token`."""

    def __init__(self, objects: Objects, access: Access, tokens: Tokens) -> None:
        self._objects = objects
        self._access = access
        self._tokens = tokens

    def create(self, kind: Kind, body: Object, user: User, namespace: str) -> Object:
        """The body with its status. Raises Refused."""
        head: Object = {"apiVersion": kind.group_version, "kind": kind.name, "metadata": {}}
        body = head | body
        spec: Object = body.setdefault("spec", {})
        match kind.name:
            case "TokenReview":
                status = self._access.reviewed(
                    str(spec.get("token", "")), list(spec.get("audiences") or ()), int(time.time())
                )
            case "SelfSubjectReview":
                status = {"userInfo": user.document}
            case "SelfSubjectAccessReview":
                status = self._verdict(user, spec)
            case "SubjectAccessReview" | "LocalSubjectAccessReview":
                status = self._verdict(_asked_about(kind, spec, namespace), spec)
            case "SelfSubjectRulesReview":
                status = self._rules(user, str(spec.get("namespace", "")) or namespace)
            case _:
                raise no_such_path()
        return body | {"status": status}

    def token(self, body: Object, namespace: str, account: str) -> Object:
        """A TokenRequest with its token. Bound to a Pod only if that Pod exists with that uid. Raises Refused."""
        stored = self._objects.store.get(_SERVICE_ACCOUNT, (namespace, account))
        spec = body.get("spec") or {}
        seconds = spec.get("expirationSeconds", _SECONDS_DEFAULT)
        if not isinstance(seconds, int) or seconds < SECONDS_MIN:
            message = f"Invalid value: {seconds!r}: may not specify a duration less than 10 minutes"
            raise invalid(_TOKEN_REQUEST, account, "spec.expirationSeconds", message)
        audiences = list(spec.get("audiences") or (ISSUER,))
        bound = spec.get("boundObjectRef") or {}
        token, expires = self._tokens.issue(
            namespace=namespace,
            account=account,
            account_uid=stored.obj["metadata"]["uid"],
            audiences=audiences,
            seconds=seconds,
            now=int(time.time()),
            bound_to=self._bound(bound, namespace, account) if bound else None,
        )
        stamp = datetime.fromtimestamp(expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": account, "namespace": namespace},
            "spec": spec | {"audiences": audiences, "expirationSeconds": seconds},
            "status": {"token": token, "expirationTimestamp": stamp},
        }

    def _bound(self, reference: Object, namespace: str, account: str) -> Object:
        """Claims of a token that lives as long as a Pod or a Secret."""
        kind = {"Pod": _POD, "Secret": _SECRET}.get(str(reference.get("kind")))
        if kind is None:
            raise bad_request(f"cannot bind a token to a {reference.get('kind')}: only to a Pod or a Secret")
        obj = self._objects.store.get(kind, (namespace, str(reference.get("name", "")))).obj
        metadata = obj["metadata"]
        if reference.get("uid") not in (None, "", metadata["uid"]):
            raise conflict(kind, metadata["name"], f"the {kind.name} has another uid")
        claims: Object = {kind.singular: {"name": metadata["name"], "uid": metadata["uid"]}}
        if kind is _SECRET:
            return claims
        if obj["spec"].get("serviceAccountName") != account:
            raise bad_request(f"the Pod {metadata['name']} does not run as {account}")
        node = obj["spec"].get("nodeName", "")
        return claims | ({"node": {"name": node}} if node else {})

    def _verdict(self, user: User, spec: Object) -> Object:
        resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
        if not resource and not path:
            raise bad_request("exactly one of resourceAttributes and nonResourceAttributes must be set")
        if resource:
            wanted = Attributes(
                verb=resource.get("verb", ""),
                group=resource.get("group", ""),
                resource=resource.get("resource", ""),
                subresource=resource.get("subresource", ""),
                namespace=resource.get("namespace", ""),
                name=resource.get("name", ""),
            )
        else:
            wanted = Attributes(verb=(path or {}).get("verb", ""), path=(path or {}).get("path", "/"))
        return {"allowed": self._access.allows(user, wanted)}

    def _rules(self, user: User, namespace: str) -> Object:
        rules = list(self._access.rules(user, namespace))
        return {
            "resourceRules": [rule for rule in rules if rule.get("resources")],
            "nonResourceRules": [rule for rule in rules if rule.get("nonResourceURLs")],
            "incomplete": False,
        }


def _asked_about(kind: Kind, spec: Object, namespace: str) -> User:
    """Exactly the user and the groups that are named. Raises Refused."""
    inside = (spec.get("resourceAttributes") or {}).get("namespace", "")
    if kind.name == "LocalSubjectAccessReview" and inside != namespace:
        raise bad_request(f"spec.resourceAttributes.namespace must be {namespace!r}, the one that is asked in")
    user, groups = spec.get("user") or "", spec.get("groups") or ()
    if not user and not groups:
        raise bad_request("at least one of user or group must be specified")
    return User(str(user), tuple(str(group) for group in groups), str(spec.get("uid") or ""))
