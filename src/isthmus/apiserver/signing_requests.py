"""CertificateSigningRequests: somebody asks for a certificate, somebody else approves that, and a signer puts it into the status.

Who asks is what the server knows of the caller, never what the object says. What is asked for stays as it was asked. Approving and signing
need rights on the signer (`signers`, by its name or `DOMAIN/*`), besides those on the object. The server itself signs nothing.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import NameOID

from isthmus.apiserver.access import MASTERS, Access, Attributes, User
from isthmus.apiserver.admission import Change
from isthmus.apiserver.kinds import BUILT_IN
from isthmus.apiserver.status import Refused, invalid_fields
from isthmus.apiserver.validation import Fault

Object = dict[str, Any]

KIND = next(kind for kind in BUILT_IN if kind.name == "CertificateSigningRequest")
APPROVAL, STATUS = "approval", "status"
_DECISIONS = ("Approved", "Denied")
_LASTING = (*_DECISIONS, "Failed")
_CLIENTS_OF_THE_SERVER = "kubernetes.io/kube-apiserver-client"
_LEGACY = "kubernetes.io/legacy-unknown"
_SECONDS_MIN = 600
_SIGNER_LENGTH_MAX = 571
_DOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)+")
_PATH = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_USAGES = frozenset({
    "signing", "digital signature", "content commitment", "key encipherment", "key agreement", "data encipherment", "cert sign", "crl sign",
    "encipher only", "decipher only", "any", "server auth", "client auth", "code signing", "email protection", "s/mime", "ipsec end system",
    "ipsec tunnel", "ipsec user", "timestamping", "ocsp signing", "microsoft sgc", "netscape sgc",
})  # fmt: skip
_UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension)
_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)


def begin(obj: Object, user: User) -> None:
    """A new one is its caller's, whatever it says, and nobody has decided about it."""
    spec = obj.get("spec")
    if isinstance(spec, dict):
        for field in ("username", "uid", "groups", "extra"):
            spec.pop(field, None)
        spec.update(user.document)
    obj["status"] = {}


def merged(old: Object, wanted: Object, subresource: str) -> Object:
    """What a writer may change: conditions through `approval`, the certificate and conditions through `status`, else metadata alone."""
    new = wanted | {"spec": old.get("spec")}
    before, said = old.get("status") or {}, wanted.get("status") or {}
    if subresource == APPROVAL:
        new["status"] = before | {"conditions": said.get("conditions") or []}
    elif subresource == STATUS:
        new["status"] = said
    else:
        new["status"] = before
    return new


def check(change: Change, new: Object) -> None:
    """Raises Refused (Invalid)."""
    faults = list(_request_faults(new.get("spec") or {})) if change.old is None else []
    faults += _status_faults(new.get("status") or {})
    if change.old is not None:
        faults += _change_faults(change, change.old.get("status") or {}, new.get("status") or {})
    if faults:
        raise invalid_fields(KIND, change.name, faults)


def _request_faults(spec: Object) -> Iterator[Fault]:
    wrong = _wrong_request(spec.get("request") or "")
    if wrong:
        yield Fault("spec.request", "FieldValueInvalid", f"Invalid value: {wrong}")
    usages = spec.get("usages") or ()
    if not usages:
        yield Fault("spec.usages", "FieldValueRequired", "Required value")
    for position, usage in enumerate(usages):
        if usage not in _USAGES:
            yield Fault(f"spec.usages[{position}]", "FieldValueNotSupported", f'Unsupported value: "{usage}"')
        elif usage in usages[:position]:
            yield Fault(f"spec.usages[{position}]", "FieldValueDuplicate", f'Duplicate value: "{usage}"')
    yield from _signer_faults(str(spec.get("signerName") or ""))
    seconds = spec.get("expirationSeconds")
    if seconds is not None and seconds < _SECONDS_MIN:
        message = f"Invalid value: {seconds}: may not specify a duration less than 600 seconds (10 minutes)"
        yield Fault("spec.expirationSeconds", "FieldValueInvalid", message)


def _signer_faults(signer: str) -> Iterator[Fault]:
    if not signer:
        yield Fault("spec.signerName", "FieldValueRequired", "Required value")
        return
    domain, slash, path = signer.partition("/")
    if len(signer) > _SIGNER_LENGTH_MAX or not slash or not _DOMAIN.fullmatch(domain) or not _PATH.fullmatch(path):
        message = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        yield Fault("spec.signerName", "FieldValueInvalid", f'Invalid value: "{signer}": {message}')
    elif signer == _LEGACY:
        message = f'Invalid value: "{signer}": this legacy signerName is not allowed via this API version'
        yield Fault("spec.signerName", "FieldValueInvalid", message)


def _wrong_request(encoded: str) -> str:
    """Why it is no signing request that proves anything; empty if it is one."""
    try:
        text = base64.b64decode(encoded, validate=True).decode("ascii", "replace")
        if "-----BEGIN CERTIFICATE REQUEST-----" not in text:
            return "PEM block type must be CERTIFICATE REQUEST"
        if not x509.load_pem_x509_csr(text.encode()).is_signature_valid:
            return "it is not signed by its own key"
    except (*_UNREADABLE, binascii.Error) as error:
        return f"it cannot be read: {error}"
    return ""


def _status_faults(status: Object) -> Iterator[Fault]:
    conditions = status.get("conditions") or []
    types = [condition.get("type") for condition in conditions]
    for position, condition in enumerate(conditions):
        path, type_ = f"status.conditions[{position}]", condition.get("type")
        if not type_:
            yield Fault(f"{path}.type", "FieldValueRequired", "Required value")
        elif type_ in _LASTING and condition.get("status") != "True":
            message = f'Unsupported value: "{condition.get("status", "")}": supported values: "True"'
            yield Fault(f"{path}.status", "FieldValueNotSupported", message)
        elif condition.get("status") not in ("True", "False", "Unknown"):
            message = (
                f'Unsupported value: "{condition.get("status", "")}": supported values: "False", "True", "Unknown"'
            )
            yield Fault(f"{path}.status", "FieldValueNotSupported", message)
        if type_ in types[:position]:
            yield Fault(f"{path}.type", "FieldValueDuplicate", f'Duplicate value: "{type_}"')
    if all(decision in types for decision in _DECISIONS):
        second = max(types.index(decision) for decision in _DECISIONS)
        message = f'Invalid value: "{types[second]}": Approved and Denied conditions are mutually exclusive'
        yield Fault(f"status.conditions[{second}].type", "FieldValueInvalid", message)
    if wrong := _wrong_certificate(status.get("certificate") or ""):
        yield Fault("status.certificate", "FieldValueInvalid", f"Invalid value: <certificate data>: {wrong}")


def _wrong_certificate(encoded: str) -> str:
    if not encoded:
        return ""
    try:
        text = base64.b64decode(encoded, validate=True).decode("ascii", "replace")
        blocks = _BLOCK.findall(text)
        if not blocks:
            return "must contain at least one CERTIFICATE PEM block"
        if other := next((block for block in blocks if block != "CERTIFICATE"), ""):
            return f"only CERTIFICATE PEM blocks are allowed, found {other!r}"
        x509.load_pem_x509_certificates(text.encode())
    except (*_UNREADABLE, binascii.Error) as error:
        return str(error)
    return ""


def _change_faults(change: Change, before: Object, after: Object) -> Iterator[Fault]:
    for type_ in _LASTING:
        had, has = (
            sum(1 for each in status.get("conditions") or () if each.get("type") == type_) for status in (before, after)
        )
        if has < had:
            yield _forbidden("status.conditions", f'updates may not remove a condition of type "{type_}"')
        elif has > had and type_ in _DECISIONS and change.subresource != APPROVAL:
            yield _forbidden("status.conditions", f'updates may not add a condition of type "{type_}"')
    if before.get("certificate") and before["certificate"] != after.get("certificate"):
        yield _forbidden("status.certificate", "updates may not modify existing certificate content")


def _forbidden(field: str, why: str) -> Fault:
    return Fault(field, "FieldValueForbidden", f"Forbidden: {why}")


class Signers:
    """Who may approve for which signer, and who may sign in its name, on top of the right to write the object."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def check(self, change: Change) -> None:
        """Raises Refused (Forbidden)."""
        if change.kind is not KIND or change.new is None:
            return
        if change.old is None:
            self._check_subject(change, change.new["spec"])
            return
        signer = str(change.old["spec"]["signerName"])
        if change.subresource == APPROVAL and not self._may(change, "approve", signer):
            raise _not_permitted(change, "approve", signer)
        changes = (change.old.get("status") or {}) != (change.new.get("status") or {})
        if change.subresource == STATUS and changes and not self._may(change, "sign", signer):
            raise _not_permitted(change, "sign", signer)

    def _check_subject(self, change: Change, spec: Object) -> None:
        """Nobody gets a certificate of the API server's own masters this way."""
        if spec.get("signerName") != _CLIENTS_OF_THE_SERVER:
            return
        request = x509.load_pem_x509_csr(base64.b64decode(spec["request"]))
        groups = [name.value for name in request.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
        if MASTERS in groups:
            why = f"use of {_CLIENTS_OF_THE_SERVER} signer with {MASTERS} group is not allowed"
            raise Refused(403, "Forbidden", f'{KIND.qualified} "{change.name}" is forbidden: {why}')

    def _may(self, change: Change, verb: str, signer: str) -> bool:
        names = (signer, f"{signer.partition('/')[0]}/*")
        wanted = (Attributes(verb=verb, group=KIND.group, resource="signers", name=name) for name in names)
        return any(self._access.allows(change.author.user, each) for each in wanted)


def _not_permitted(change: Change, verb: str, signer: str) -> Refused:
    why = f'user not permitted to {verb} requests with signerName "{signer}"'
    return Refused(403, "Forbidden", f'{KIND.qualified} "{change.name}" is forbidden: {why}')
