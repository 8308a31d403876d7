"""The name table: what an agent's DNS proxy answers from (`istio.networking.nds.v1.NameTable`, as Istio's agents read it).

The message is described here in code, because no Python package ships it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from isthmus.envoy.resources import Resource
from isthmus.model.views import NameRecord

_PACKAGE = "istio.networking.nds.v1"


def _described() -> descriptor_pb2.FileDescriptorProto:
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="isthmus/nds.proto", package=_PACKAGE, syntax="proto3")
    table = file.message_type.add(name="NameTable")
    info = table.nested_type.add(name="NameInfo")
    for number, name, label in (
        (1, "ips", field.LABEL_REPEATED),
        (2, "registry", field.LABEL_OPTIONAL),
        (3, "shortname", field.LABEL_OPTIONAL),
        (4, "namespace", field.LABEL_OPTIONAL),
        (5, "alt_hosts", field.LABEL_REPEATED),
    ):
        info.field.add(name=name, number=number, label=label, type=field.TYPE_STRING)
    entry = table.nested_type.add(name="TableEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=field.LABEL_OPTIONAL, type=field.TYPE_STRING)
    info_type = f".{_PACKAGE}.NameTable.NameInfo"
    entry.field.add(name="value", number=2, label=field.LABEL_OPTIONAL, type=field.TYPE_MESSAGE, type_name=info_type)
    entry_type = f".{_PACKAGE}.NameTable.TableEntry"
    table.field.add(name="table", number=1, label=field.LABEL_REPEATED, type=field.TYPE_MESSAGE, type_name=entry_type)
    return file


def _message_class() -> Any:
    pool = descriptor_pool.Default()
    pool.Add(_described())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.NameTable"))


NameTable = _message_class()


def encode(records: Sequence[NameRecord]) -> Resource:
    """The one, unnamed resource of its type."""
    table = NameTable()
    for record in records:
        info = table.table[record.host]
        info.ips.extend(record.ips)
        info.registry = record.registry
        info.shortname = record.short_name
        info.namespace = record.namespace
    return Resource.of("", table)


def decode(body: bytes) -> tuple[NameRecord, ...]:
    """Sorted by host. Raises google.protobuf.message.DecodeError for anything but a name table."""
    table = NameTable.FromString(body)
    return tuple(
        NameRecord(
            host=host,
            ips=tuple(info.ips),
            registry=info.registry,
            short_name=info.shortname,
            namespace=info.namespace,
        )
        for host, info in sorted(table.table.items())
    )
