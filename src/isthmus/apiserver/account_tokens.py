"""Token Secrets: a Secret of type `kubernetes.io/service-account-token` gets a token of the account that it names, for as long as both are there."""

from __future__ import annotations

import base64
import time

from isthmus.apiserver.authors import controller
from isthmus.apiserver.kinds import BUILT_IN
from isthmus.apiserver.objects import Objects
from isthmus.apiserver.store import Name
from isthmus.apiserver.tokens import ISSUER, Tokens

TYPE = "kubernetes.io/service-account-token"
_NAME, _UID = "kubernetes.io/service-account.name", "kubernetes.io/service-account.uid"
_SECONDS = 10 * 365 * 86400
_BY_NAME = {kind.name: kind for kind in BUILT_IN}
_SECRET, _ACCOUNT = _BY_NAME["Secret"], _BY_NAME["ServiceAccount"]
_AUTHOR = controller("token-controller")


class AccountTokens:
    """Looks at one Secret at a time."""

    def __init__(self, objects: Objects, tokens: Tokens, ca_pem: str) -> None:
        self._objects = objects
        self._tokens = tokens
        self._ca_pem = ca_pem

    async def look_at(self, name: Name) -> None:
        """Fills it, or deletes it if its account is gone."""
        stored = self._objects.store.find(_SECRET, name)
        if stored is None or stored.obj.get("type") != TYPE or "deletionTimestamp" in stored.obj["metadata"]:
            return
        metadata = stored.obj["metadata"]
        annotations = metadata.get("annotations") or {}
        account = self._objects.store.find(_ACCOUNT, (name[0], annotations.get(_NAME, "")))
        uid = account.obj["metadata"]["uid"] if account is not None else ""
        if not uid or annotations.get(_UID, uid) != uid:
            await self._objects.delete(_SECRET, name, {"preconditions": {"uid": metadata["uid"]}}, _AUTHOR)
            return
        data = stored.obj.get("data") or {}
        if data.get("token") and data.get("ca.crt") == _encoded(self._ca_pem):
            return
        # A token that is there already stays, as with Kubernetes' own controller.
        token = data.get("token") or _encoded(self._issued(name, annotations[_NAME], uid, metadata["uid"]))
        filled = data | {"token": token, "ca.crt": _encoded(self._ca_pem), "namespace": _encoded(name[0])}
        marked = metadata | {"annotations": annotations | {_UID: uid}}
        await self._objects.replace(_SECRET, stored.obj | {"metadata": marked, "data": filled}, author=_AUTHOR)

    def _issued(self, secret: Name, account: str, account_uid: str, secret_uid: str) -> str:
        token, _ = self._tokens.issue(
            namespace=secret[0],
            account=account,
            account_uid=account_uid,
            audiences=(ISSUER,),
            seconds=_SECONDS,
            now=int(time.time()),
            bound_to={"secret": {"name": secret[1], "uid": secret_uid}},
        )
        return token


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
