"""The messages of `istio.v1.auth.IstioCertificateService`, described in code because no Python package ships them."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2

_PACKAGE = "istio.v1.auth"
SERVICE = f"{_PACKAGE}.IstioCertificateService"
METHOD = "CreateCertificate"
ROOT = "IsthmusRoot"
"""In the request's metadata: the fingerprint of the root that the certificate shall lead to. No other agent says it."""


def _described() -> descriptor_pb2.FileDescriptorProto:
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="isthmus/ca.proto", package=_PACKAGE, syntax="proto3", dependency=[struct_pb2.DESCRIPTOR.name]
    )
    request = file.message_type.add(name="IstioCertificateRequest")
    request.field.add(name="csr", number=1, label=field.LABEL_OPTIONAL, type=field.TYPE_STRING)
    request.field.add(name="validity_duration", number=3, label=field.LABEL_OPTIONAL, type=field.TYPE_INT64)
    request.field.add(
        name="metadata",
        number=4,
        label=field.LABEL_OPTIONAL,
        type=field.TYPE_MESSAGE,
        type_name=".google.protobuf.Struct",
    )
    response = file.message_type.add(name="IstioCertificateResponse")
    response.field.add(name="cert_chain", number=1, label=field.LABEL_REPEATED, type=field.TYPE_STRING)
    return file


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


_POOL = descriptor_pool.Default()
_POOL.Add(_described())

IstioCertificateRequest = _message("IstioCertificateRequest")
IstioCertificateResponse = _message("IstioCertificateResponse")
