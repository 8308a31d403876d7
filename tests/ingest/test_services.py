"""What Services say, and how those of several clusters become one."""

from __future__ import annotations

import pytest

from isthmus.api.core import ServicePort
from isthmus.ingest.services import protocol_of


@pytest.mark.parametrize(
    ("app_protocol", "name", "protocol"),
    [
        # What appProtocol says comes before the name, where it is known.
        ("http", "tcp-x", "http"),
        ("HTTP2", "tcp-x", "http2"),
        ("grpc", "", "grpc"),
        ("tcp", "http", "tcp"),
        ("tls", "http", "tls"),
        ("kubernetes.io/h2c", "", "http2"),
        ("kubernetes.io/ws", "", "http"),
        ("kubernetes.io/wss", "", "https"),
        ("example.com/own", "grpc-x", "grpc"),
        ("example.com/own", "x", "auto"),
        # The name: a protocol, alone or before a dash; the longest that is known.
        ("", "http", "http"),
        ("", "http-web", "http"),
        ("", "GRPC-Web", "grpc-web"),
        ("", "grpc-website", "grpc"),
        ("", "redis-cache", "tcp"),
        ("", "httpweb", "auto"),
        ("", "web-http", "auto"),
        ("", "", "auto"),
    ],
)
def test_what_a_port_speaks(app_protocol, name, protocol):
    assert protocol_of(ServicePort(port=80, name=name, app_protocol=app_protocol)).value == protocol


@pytest.mark.parametrize("number", [25, 53, 3306, 27017])
def test_where_servers_speak_first_nothing_is_guessed(number):
    assert protocol_of(ServicePort(port=number, name="x")).value == "tcp"
    assert protocol_of(ServicePort(port=number, name="http")).value == "http"


@pytest.mark.parametrize(("name", "app_protocol"), [("dns", ""), ("http", "http")])
def test_udp_is_udp_whatever_is_said(name, app_protocol):
    assert protocol_of(ServicePort(port=80, name=name, app_protocol=app_protocol, protocol="UDP")).value == "udp"


def merged(words, **clusters):
    """The service of a mesh, and the issues, from what its clusters say in the spec."""
    snapshot = words.snapshot(*(words.cluster(name, words.service(**spec)) for name, spec in clusters.items()))
    [service] = snapshot.services.values()
    return service, snapshot.issues


def port(number, name, **more):
    return {"port": number, "name": name} | more


@pytest.mark.parametrize(
    ("east", "west", "numbers", "told"),
    [
        ([port(80, "http")], [port(80, "http")], [(80, "http")], []),
        ([port(80, "http")], [port(90, "http-x")], [(80, "http"), (90, "http-x")], []),
        # One name under two numbers is two ports, with the same endpoints.
        ([port(80, "http")], [port(90, "http")], [(80, "http"), (90, "http")], []),
        ([port(80, "http")], [port(80, "tcp")], [(80, "http")], ["ISM0101"]),
        ([port(80, "x", appProtocol="http")], [port(80, "x")], [(80, "x")], ["ISM0101"]),
        ([port(53, "dns", protocol="UDP"), port(53, "dns-tcp")], [port(53, "dns-tcp")], [(53, "dns"), (53, "dns-tcp")], []),
        ([port(53, "dns", protocol="UDP")], [port(53, "tcp")], [(53, "dns"), (53, "tcp")], []),
        ([], [port(80, "http")], [(80, "http")], []),
    ],
)  # fmt: skip
def test_ports_are_those_of_all_clusters(words, east, west, numbers, told):
    service, issues = merged(words, west={"ports": west}, east={"ports": east})

    assert sorted((each.number, each.name) for each in service.ports) == numbers
    assert [issue.code for issue in issues] == told
    assert all(issue.subject.cluster == "west" for issue in issues)


@pytest.mark.parametrize(
    ("east", "west", "headless", "ips"),
    [
        ({"ip": "10.96.0.1"}, {"ip": "10.97.0.1"}, False, {"east": ("10.96.0.1",), "west": ("10.97.0.1",)}),
        ({"ip": "None"}, {"ip": "None"}, True, {}),
        ({"ip": "None"}, {"ip": "10.97.0.1"}, False, {"west": ("10.97.0.1",)}),
        # Not given yet.
        ({"ip": ""}, {"ip": "10.97.0.1"}, False, {"west": ("10.97.0.1",)}),
        (
            {"ip": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00::1"]},
            {"ip": "10.97.0.1"},
            False,
            {"east": ("10.96.0.1", "fd00::1"), "west": ("10.97.0.1",)},
        ),
    ],
)
def test_which_addresses_it_has(words, east, west, headless, ips):
    service, _ = merged(words, east=east, west=west)

    assert service.headless is headless
    assert dict(service.virtual_ips) == ips


def test_another_name_for_something_outside_is_no_service(words):
    external = words.service(type="ExternalName", externalName="db.example.com")

    assert words.snapshot(words.cluster("east", external)).services == {}


@pytest.mark.parametrize(
    ("annotation", "spec", "distribution"),
    [
        (None, {}, ""),
        (None, {"trafficDistribution": "PreferClose"}, "PreferClose"),
        ("PreferSameNode", {}, "PreferSameNode"),
        ("PreferSameNode", {"trafficDistribution": "PreferClose"}, "PreferClose"),
    ],
)
def test_whom_callers_prefer(words, annotation, spec, distribution):
    said = words.service(**spec)
    if annotation:
        said["metadata"]["annotations"] = {"networking.istio.io/traffic-distribution": annotation}

    [service] = words.snapshot(words.cluster("east", said)).services.values()

    assert service.traffic_distribution == distribution


@pytest.mark.parametrize(
    ("annotation", "export_to"),
    [(None, ()), ("*", ("*",)), (".", (".",)), ("other, .", ("other", ".")), ("~", ("~",)), ("", ())],
)
def test_for_whom_it_is_there(words, annotation, export_to):
    said = words.service()
    if annotation is not None:
        said["metadata"]["annotations"] = {"networking.istio.io/exportTo": annotation}

    [service] = words.snapshot(words.cluster("east", said)).services.values()

    assert service.export_to == export_to


@pytest.mark.parametrize(
    ("east", "west", "field"),
    [
        ({"ip": "None"}, {"ip": "10.97.0.1"}, "spec.clusterIP"),
        ({"ip": "10.96.0.1"}, {"ip": "None"}, "spec.clusterIP"),
        ({"export": "."}, {"export": "*"}, "metadata.annotations"),
        ({"export": "."}, {}, "metadata.annotations"),
        ({"export": "*"}, {}, ""),
        ({"export": "a,b"}, {"export": "b, a"}, ""),
    ],
)
def test_what_cannot_be_had_of_both_is_told(words, east, west, field):
    def declared(name, ip="10.96.0.1", export=None):
        said = words.service(ip=ip)
        if export:
            said["metadata"]["annotations"] = {"networking.istio.io/exportTo": export}
        return words.cluster(name, said)

    snapshot = words.snapshot(declared("west", **west), declared("east", **east))

    told = [("ISM0108", "west", field)] if field else []
    assert [(issue.code, issue.subject.cluster, issue.field) for issue in snapshot.issues] == told
