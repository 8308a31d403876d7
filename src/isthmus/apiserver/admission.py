"""Admission: which webhooks are asked about a change, what they are asked, and what their answers mean. No I/O."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from isthmus.apiserver import patches
from isthmus.apiserver.authors import Author
from isthmus.apiserver.kinds import Kind, Kinds
from isthmus.apiserver.selectors import from_label_selector
from isthmus.apiserver.status import Refused, bad_request
from isthmus.apiserver.webhook_shapes import Rule, Webhook

Object = dict[str, Any]
Operation = Literal["CREATE", "UPDATE", "DELETE"]

_GROUP = "admissionregistration.k8s.io"
_OPTIONS = {"CREATE": "CreateOptions", "UPDATE": "UpdateOptions", "DELETE": "DeleteOptions"}


class BadAnswer(Exception):
    """An answer that is none: what is wrong with it, in words."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What is about to be done to one object. `new` is None for DELETE, `old` for CREATE."""

    operation: Operation
    kind: Kind
    namespace: str
    name: str
    new: Object | None
    old: Object | None
    subresource: str
    author: Author
    options: Object

    def to(self, new: Object | None) -> Change:
        return msgspec.structs.replace(self, new=new)


def asked_as(webhook: Webhook, change: Change, kinds: Kinds, namespace_labels: Mapping[str, str]) -> Kind | None:
    """The kind in the version in which the webhook wants to see the change; None if it does not."""
    if change.kind.group == _GROUP:
        return None  # A webhook that could refuse its own removal could never be removed.
    if not _selects_namespace(webhook, change, namespace_labels) or not _selects_object(webhook, change):
        return None
    if any(_rule_matches(rule, change, change.kind) for rule in webhook.rules):
        return change.kind
    if webhook.match_policy == "Equivalent":
        for other in kinds.all():
            if other.storage == change.kind.storage and any(
                _rule_matches(rule, change, other) for rule in webhook.rules
            ):
                return other
    return None


def review(change: Change, kind: Kind, uid: str) -> Object:
    """The AdmissionReview that a webhook gets. `kind` is what `asked_as` said."""
    mine = change.kind
    request: Object = {
        "uid": uid,
        "kind": {"group": kind.group, "version": kind.version, "kind": kind.name},
        "resource": {"group": kind.group, "version": kind.version, "resource": kind.plural},
        "requestKind": {"group": mine.group, "version": mine.version, "kind": mine.name},
        "requestResource": {"group": mine.group, "version": mine.version, "resource": mine.plural},
        "name": change.name,
        "operation": change.operation,
        "userInfo": change.author.user.document,
        "object": _in_version(change.new, kind),
        "oldObject": _in_version(change.old, kind),
        "dryRun": change.author.dry_run,
        "options": {"kind": _OPTIONS[change.operation], "apiVersion": "meta.k8s.io/v1"} | change.options,
    }
    if change.namespace:
        request["namespace"] = change.namespace
    if change.subresource:
        request |= {"subResource": change.subresource, "requestSubResource": change.subresource}
    return {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request}


class _Status(msgspec.Struct):
    message: str = ""
    reason: str = ""
    code: int = 0
    details: dict[str, Any] | None = None


class _Response(msgspec.Struct, rename="camel"):
    uid: str
    allowed: bool
    patch: str | None = None
    patch_type: str | None = None
    status: _Status | None = None
    warnings: list[str] | None = None
    audit_annotations: dict[str, str] | None = None


class _Review(msgspec.Struct, rename="camel"):
    kind: Literal["AdmissionReview"]
    api_version: Literal["admission.k8s.io/v1"]
    response: _Response


def concluded(webhook: Webhook, change: Change, uid: str, body: bytes, *, may_patch: bool) -> Change:
    """What an answer makes of the change. Raises Refused if the webhook denies it, BadAnswer for what is no answer."""
    try:
        answer = msgspec.json.decode(body, type=_Review).response
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadAnswer(f"expected a response of admission.k8s.io/v1 AdmissionReview: {error}") from None
    if answer.uid != uid:
        raise BadAnswer(f"expected response.uid {uid!r}, got {answer.uid!r}")
    for warning in answer.warnings or ():
        change.author.warn(warning)
    for key, text in (answer.audit_annotations or {}).items():
        change.author.remark(f"{webhook.name}/{key}", text)
    if not answer.allowed:
        raise _denied(webhook, answer.status or _Status())
    if not answer.patch:
        return change
    if not may_patch or change.new is None:
        raise BadAnswer("a patch, where nothing can be changed")
    if answer.patch_type != "JSONPatch":
        raise BadAnswer(f"unsupported patch type {answer.patch_type!r}")
    try:
        patched = patches.json_patch(change.new, msgspec.json.decode(base64.b64decode(answer.patch, validate=True)))
    except (binascii.Error, ValueError, Refused) as error:
        raise BadAnswer(f"its patch cannot be applied: {error}") from None
    if not isinstance(patched, dict) or not isinstance(patched.get("metadata"), dict):
        raise BadAnswer("its patch leaves no object")
    return change.to(patched)


def _denied(webhook: Webhook, status: _Status) -> Refused:
    why = f" denied the request: {status.message or status.reason}" if status.message or status.reason else ""
    message = f'admission webhook "{webhook.name}"{why or " denied the request without explanation"}'
    reason = status.reason if status.reason not in ("", "Unknown") else "BadRequest"
    return Refused(status.code if status.code >= 400 else 400, reason, message, status.details)


def check_dry_run(webhook: Webhook, change: Change) -> None:
    """Raises Refused: a webhook with effects elsewhere must not be asked about what will not happen."""
    if change.author.dry_run and webhook.side_effects not in ("None", "NoneOnDryRun"):
        raise bad_request(f'admission webhook "{webhook.name}" does not support dry run')


def _selects_namespace(webhook: Webhook, change: Change, namespace_labels: Mapping[str, str]) -> bool:
    """Namespaces are selected by their own labels; other objects without a namespace always are."""
    selector = from_label_selector(webhook.namespace_selector)
    if change.kind.name == "Namespace" and not change.kind.group:
        return selector(change.new or change.old or {"metadata": {}})
    return not change.namespace or selector({"metadata": {"labels": namespace_labels}})


def _selects_object(webhook: Webhook, change: Change) -> bool:
    """Before or after the change: nobody escapes by taking a label off."""
    selector = from_label_selector(webhook.object_selector)
    return any(selector(obj) for obj in (change.new, change.old) if obj is not None)


def _rule_matches(rule: Rule, change: Change, kind: Kind) -> bool:
    scoped = rule.scope == "*" or (rule.scope == "Namespaced") is kind.namespaced
    return (
        scoped
        and any(operation in ("*", change.operation) for operation in rule.operations)
        and any(group in ("*", kind.group) for group in rule.api_groups)
        and any(version in ("*", kind.version) for version in rule.api_versions)
        and any(_resource_matches(pattern, kind.plural, change.subresource) for pattern in rule.resources)
    )


def _resource_matches(pattern: str, plural: str, subresource: str) -> bool:
    """`*` has no subresources; `*/*` has everything; `pods/*` has Pods and what they have."""
    resource, _, part = pattern.partition("/")
    return resource in ("*", plural) and (part == subresource or part == "*")


def _in_version(obj: Object | None, kind: Kind) -> Object | None:
    return obj | {"apiVersion": kind.group_version} if obj is not None else None
