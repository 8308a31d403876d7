"""The name table: Istio's own message, out and back."""

from __future__ import annotations

from isthmus.envoy import name_table


def test_records_survive_the_way_sorted_by_host(mesh):
    records = [
        mesh.NameRecord(
            host=f"{name}.sample.svc.cluster.local",
            ips=("10.96.0.1", "fd00::1"),
            registry="Kubernetes",
            short_name=name,
            namespace="sample",
        )
        for name in ("b", "a")
    ]

    resource = name_table.encode(records)

    assert resource.name == ""
    assert name_table.decode(resource.body) == tuple(sorted(records))


def test_the_wire_is_istio_s(mesh):
    record = mesh.NameRecord(host="h", ips=("1.1.1.1",), registry="K", short_name="s", namespace="n")

    body = name_table.encode([record]).body

    info = b"\x0a\x071.1.1.1" + b"\x12\x01K" + b"\x1a\x01s" + b"\x22\x01n"
    entry = b"\x0a\x01h" + b"\x12" + bytes([len(info)]) + info
    assert body == b"\x0a" + bytes([len(entry)]) + entry


def test_order_of_records_does_not_matter(mesh):
    records = [
        mesh.NameRecord(host=str(n), ips=("1.1.1.1",), registry="", short_name="", namespace="") for n in range(50)
    ]

    assert name_table.encode(records) == name_table.encode(records[::-1])
