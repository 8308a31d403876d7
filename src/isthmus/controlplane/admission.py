"""AdmissionReviews (admission.k8s.io): what an API server asks of a webhook, and what it is answered. No I/O."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from isthmus.api.meta import KubernetesObject
from isthmus.api.registry import UndecodableObject, decode, kind_of
from isthmus.assurance.validation import validate
from isthmus.injection.injecting import LeftAsItIs, checked, inject
from isthmus.injection.patching import json_patch
from isthmus.injection.settings import BadRequest, InjectionSettings

Object = dict[str, Any]
IsTooMany = Callable[[str, KubernetesObject], str]
"""Given a kind and an object: why its namespace may not have it, or nothing."""

_WARNINGS_MAX = 20
_WARNING_CHARACTERS_MAX = 256
_CAUSES_MAX = 50


class BadReview(ValueError):
    """A body that is no AdmissionReview; the text says why."""


class _Request(msgspec.Struct, rename="camel"):
    uid: str
    operation: str = "CREATE"
    namespace: str = ""
    object: dict[str, Any] | None = None


class _Review(msgspec.Struct, rename="camel"):
    kind: str
    api_version: str
    request: _Request | None = None


def review(body: bytes, decide: Callable[[Object, str], Object]) -> bytes:
    """The answer: an AdmissionReview of the version that was asked in. `decide` is given the object and its namespace.

    What is deleted is let go. Raises BadReview.
    """
    try:
        asked = msgspec.json.decode(body, type=_Review)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadReview(f"not an AdmissionReview: {error}") from None
    if asked.kind != "AdmissionReview" or not asked.api_version.startswith("admission.k8s.io/"):
        raise BadReview(f"not an AdmissionReview, but {asked.api_version} {asked.kind}")
    if asked.request is None:
        raise BadReview("the AdmissionReview asks nothing: it has no request")
    request = asked.request
    if request.object is None or request.operation not in ("CREATE", "UPDATE"):
        answer: Object = {"allowed": True}
    else:
        answer = decide(request.object, request.namespace)
    head = {"apiVersion": asked.api_version, "kind": "AdmissionReview"}
    return msgspec.json.encode({**head, "response": {"uid": request.uid, **answer}})


def injection(pod: Object, namespace: str, settings: InjectionSettings) -> Object:
    """The patch that puts a proxy into the Pod. A Pod whose annotations cannot be used is refused, and told why."""
    try:
        found = inject(checked(pod), namespace, settings)
    except BadRequest as error:
        return _refused([str(error)])
    if isinstance(found, LeftAsItIs):
        return {"allowed": True, "auditAnnotations": {"left-as-it-is": found.why}}
    patch = msgspec.json.encode(json_patch(pod, found.pod))
    answer = {"allowed": True, "patchType": "JSONPatch", "patch": base64.b64encode(patch).decode()}
    return answer | _warned(found.warnings)


def validation(item: Object, _namespace: str) -> Object:
    """Each problem of the object by itself."""
    verdict = validate(item)
    said = _warned(verdict["warnings"])
    if verdict["valid"]:
        return {"allowed": True, **said}
    return _refused([str(error) for error in verdict["errors"]]) | said


def quota(item: Object, namespace: str, is_too_many: IsTooMany) -> Object:
    """Whether the object's namespace may have one more. One that cannot be read is let go: it is told where it is read."""
    kind = kind_of(str(item.get("apiVersion", "")), str(item.get("kind", "")))
    if kind is None or not namespace:
        return {"allowed": True}
    try:
        metadata = {**(item.get("metadata") or {}), "namespace": namespace}
        why = is_too_many(kind.key, decode(kind, {**item, "metadata": metadata}))
    except UndecodableObject:
        why = ""
    if not why:
        return {"allowed": True}
    status = {"status": "Failure", "code": 403, "reason": "Forbidden", "message": f"exceeds a quota: {why}"}
    return {"allowed": False, "status": status}


def _warned(warnings: Sequence[object]) -> Object:
    """API servers pass on a few short ones."""
    told = [str(warning)[:_WARNING_CHARACTERS_MAX] for warning in warnings[:_WARNINGS_MAX]]
    return {"warnings": told} if told else {}


def _refused(problems: list[str]) -> Object:
    """People see the message; programs read the causes."""
    causes = [{"reason": "FieldValueInvalid", **_cause(problem)} for problem in problems[:_CAUSES_MAX]]
    more = [f"and {len(problems) - _CAUSES_MAX} more"] if len(problems) > _CAUSES_MAX else []
    return {
        "allowed": False,
        "status": {
            "status": "Failure",
            "code": 422,
            "reason": "Invalid",
            "message": "; ".join([*problems[:_CAUSES_MAX], *more]),
            "details": {"causes": causes},
        },
    }


def _cause(problem: str) -> Object:
    field, colon, what = problem.partition(": ")
    return {"field": field, "message": what} if colon and " " not in field else {"message": problem}
