"""The walk and a real Envoy agree on the same configuration: it serves on loopback, and answers each request with the name of what took it."""

from __future__ import annotations

import datetime
import http.client
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from free_ports import free_port
from running_envoy import running_envoy

from isthmus.assurance.rendering import node_of, render
from isthmus.assurance.scenario import scenario_of
from isthmus.assurance.traffic.request import Request, Tls
from isthmus.assurance.traffic.walk import Configuration, Outcome, Side, Walk, walk
from isthmus.envoy.static import static_bootstrap
from isthmus.model.security import PathNormalization

HERE = Path(__file__).parent
LOOPBACK = "127.0.0.1"


def telling(node: Any) -> Any:
    """Routes answer with their own name instead of going anywhere."""
    if isinstance(node, list):
        return [telling(each) for each in node]
    if not isinstance(node, dict):
        return node
    if "match" in node and "route" in node:
        kept = {key: node[key] for key in ("name", "match")}
        return kept | {"directResponse": {"status": 200, "body": {"inlineString": node.get("name", "")}}}
    return {key: telling(value) for key, value in node.items()}


@dataclass
class Served:
    """One document, in both."""

    document: dict[str, Any]
    port: int

    def walked(self, request: Request) -> Walk:
        return walk(Configuration(self.document), request, Side.GATEWAY)

    def answered(self, request: Request) -> tuple[int, str]:
        """Status and body; (0, "") where the connection is closed."""
        try:
            connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=60)
            connection.sock = self._connected(request)
            connection.request(request.method, request.path, headers={"Host": request.host} | dict(request.headers))
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException):
            return 0, ""
        finally:
            connection.close()

    def _connected(self, request: Request) -> socket.socket:
        plain = socket.create_connection((LOOPBACK, self.port), timeout=60)
        if request.tls is Tls.NONE:
            return plain
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if request.alpn:
            context.set_alpn_protocols(list(request.alpn))
        return context.wrap_socket(plain, server_hostname=request.sni or None)


def serving(document: dict[str, Any], port: int, directory: Path) -> Iterator[Served]:
    with running_envoy(static_bootstrap(document), directory):
        yield Served(document, port)


def document_of(listener: dict[str, Any], *tables: dict[str, Any]) -> dict[str, Any]:
    return {"listeners": [listener], "routes": list(tables), "clusters": [], "endpoints": []}


@pytest.fixture(scope="module")
def routes(tmp_path_factory) -> Iterator[Served]:
    """A whole route table that one of every VirtualService gives."""
    scenario = scenario_of(yaml.safe_load((HERE.parent / "every-rule.yaml").read_text()))
    rendered = render(scenario, node_of(scenario, "sidecar/cart-1.shop", "east"))
    [table] = [each for each in rendered["routes"] if each["name"] == "80"]
    [listener] = [each for each in rendered["listeners"] if each["name"] == "0.0.0.0_80"]
    port = free_port()
    place = {"socketAddress": {"address": LOOPBACK, "portValue": port}}
    bound = {key: value for key, value in listener.items() if key not in ("bindToPort", "defaultFilterChain")}
    yield from serving(document_of(bound | {"address": place}, telling(table)), port, tmp_path_factory.mktemp("envoy"))


@pytest.mark.parametrize(
    "host", ["cart", "cart.shop", "CART.shop.svc.cluster.local:80", "10.96.0.2", "mail", "stock", "else.example"]
)
@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/", ()),
        ("POST", "/", ()),
        ("GET", "/v1/../v2?x=1", ()),
        ("GET", "/cart/items", (("x-user", "me"),)),
        ("GET", "/old", (("x-version", "2"),)),
    ],
)
def test_the_same_host_and_route(routes, host, method, path, headers):
    request = Request(port=routes.port, host=host, method=method, path=path, headers=headers)

    found = routes.walked(request)
    status, body = routes.answered(request)

    if found.outcome is Outcome.ANSWERED and found.status == 200 and status == 200:
        assert body == found.route
    else:
        assert status == found.status


def guarded(directory: Path, mesh_config: dict[str, Any]) -> Iterator[Served]:
    """An inbound listener with access control, at the port that it is for; without the chains that need a certificate."""
    port = free_port()
    text = (
        (HERE.parent / "explaining" / "shop.yaml")
        .read_text()
        .replace("8080", str(port))
        .replace("STRICT", "PERMISSIVE")
    )
    text = text.replace("from: [{source: {namespaces: [shop]}}], ", "")
    scenario = scenario_of(yaml.safe_load(text) | {"meshConfig": mesh_config})
    rendered = render(scenario, node_of(scenario, "sidecar/cart-1.shop", "east"))
    [listener] = [each for each in rendered["listeners"] if each["name"] == "virtualInbound"]
    listener["address"] = {"socketAddress": {"address": LOOPBACK, "portValue": port}}
    listener["listenerFilters"] = [f for f in listener["listenerFilters"] if "original_dst" not in f["name"]]
    listener["filterChains"] = [
        chain
        for chain in listener["filterChains"]
        if "transportSocket" not in chain and chain["filterChainMatch"].get("destinationPort") == port
    ]
    yield from serving(document_of(telling(listener)), port, directory)


@pytest.fixture(scope="module")
def policies(tmp_path_factory) -> Iterator[Served]:
    yield from guarded(tmp_path_factory.mktemp("envoy"), {})


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", ["/", "/admin", "/admin/users", "/a/../admin", "/ADMIN", "/public?next=/admin"])
def test_the_same_verdict(policies, method, path):
    request = Request(port=policies.port, address=LOOPBACK, host="cart", method=method, path=path, source=LOOPBACK)

    found = policies.walked(request)
    status, _ = policies.answered(request)

    assert found.judged, "access control is asked"
    assert status == found.status


MODES = list(PathNormalization)

SPELLINGS = {
    "/admin": "NONE",
    "/admin;a=b": "NONE",
    "/./admin": "BASE",
    "/public/../admin": "BASE",
    "/public/%2e%2e/admin": "BASE",
    "/%2E/admin": "BASE",
    "/%61dmin": "BASE",
    "/x\\..\\admin": "BASE",
    "//admin": "MERGE_SLASHES",
    "/.//admin": "MERGE_SLASHES",
    "/%2fadmin": "DECODE_AND_MERGE_SLASHES",
    "/x%2F..%2Fadmin": "DECODE_AND_MERGE_SLASHES",
    "/x%5c..%5Cadmin": "DECODE_AND_MERGE_SLASHES",
    "/ADMIN": "",
    "/x;a=b/../;/admin": "",
    "/%252e/admin": "",
}
"""Ways to write `/admin`, which is denied, and the weakest normalization under which each is refused; empty: none, to Envoy it is another path."""


@pytest.fixture(scope="module", params=MODES)
def normalizing(request, tmp_path_factory) -> Iterator[tuple[PathNormalization, Served]]:
    config = {"pathNormalization": {"normalization": request.param.value}}
    for served in guarded(tmp_path_factory.mktemp("envoy"), config):
        yield request.param, served


@pytest.mark.parametrize(("path", "weakest"), SPELLINGS.items())
def test_another_spelling_of_a_denied_path_is_refused_from_a_normalization_on(normalizing, path, weakest):
    mode, served = normalizing
    request = Request(port=served.port, address=LOOPBACK, host="cart", method="GET", path=path, source=LOOPBACK)
    refused = bool(weakest) and MODES.index(mode) >= MODES.index(PathNormalization(weakest))

    assert served.answered(request)[0] == (403 if refused else 200)
    assert served.walked(request).status == (403 if refused else 200)


def certificate() -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    start = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + datetime.timedelta(days=36500))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode(), private.decode()


@pytest.fixture(scope="module")
def chains(tmp_path_factory) -> Iterator[Served]:
    """Chains that differ in every property, each answering with its name."""
    port, (chain_pem, key_pem) = free_port(), certificate()
    own = {"certificateChain": {"inlineString": chain_pem}, "privateKey": {"inlineString": key_pem}}
    http2 = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    router = {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}
    tls = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
    context = {"@type": tls, "commonTlsContext": {"tlsCertificates": [own], "alpnProtocols": ["http/1.1"]}}

    def chain(name: str, *, encrypted: bool = True, **match: Any) -> dict[str, Any]:
        answer = {
            "name": name,
            "match": {"prefix": "/"},
            "directResponse": {"status": 200, "body": {"inlineString": name}},
        }
        manager = {
            "@type": http2,
            "statPrefix": name,
            "routeConfig": {"virtualHosts": [{"name": name, "domains": ["*"], "routes": [answer]}]},
            "httpFilters": [{"name": "envoy.filters.http.router", "typedConfig": router}],
        }
        filters = [{"name": "envoy.filters.network.http_connection_manager", "typedConfig": manager}]
        found: dict[str, Any] = {"name": name, "filterChainMatch": match, "filters": filters}
        return found | ({"transportSocket": {"name": "tls", "typedConfig": context}} if encrypted else {})

    inspectors = {
        f"envoy.filters.listener.{kind}_inspector": {
            "@type": f"type.googleapis.com/envoy.extensions.filters.listener.{kind}_inspector.v3.{kind.capitalize()}Inspector"
        }
        for kind in ("tls", "http")
    }
    listener = {
        "name": "chains",
        "address": {"socketAddress": {"address": LOOPBACK, "portValue": port}},
        "listenerFilters": [{"name": name, "typedConfig": config} for name, config in inspectors.items()],
        "filterChains": [
            chain("exact", serverNames=["a.shop.example"], transportProtocol="tls"),
            chain("exact-mesh", serverNames=["a.shop.example"], applicationProtocols=["istio", "istio-h2"]),
            chain("end", serverNames=["*.example"]),
            chain("longer-end", serverNames=["*.shop.example"], applicationProtocols=["istio"]),
            chain("mesh", applicationProtocols=["istio-http/1.1"]),
            chain("tls", transportProtocol="tls"),
            chain("plain", encrypted=False, transportProtocol="raw_buffer", applicationProtocols=["http/1.1"]),
        ],
        "defaultFilterChain": chain("rest", encrypted=False),
    }
    yield from serving(document_of(listener), port, tmp_path_factory.mktemp("envoy"))


@pytest.mark.parametrize("sni", ["a.shop.example", "b.shop.example", "b.example", "", "other.org"])
@pytest.mark.parametrize("alpn", [(), ("istio",), ("http/1.1", "istio-h2"), ("istio-http/1.1", "istio")])
@pytest.mark.parametrize("tls", [Tls.TLS, Tls.NONE])
def test_the_same_filter_chain(chains, tls, sni, alpn):
    request = Request(port=chains.port, address=LOOPBACK, host="x", tls=tls, sni=sni, alpn=alpn)

    found = chains.walked(request)
    status, body = chains.answered(request)

    if tls is Tls.TLS and found.chain in ("plain", "rest"):
        assert status == 0, "TLS that meets a plaintext chain is not understood"
    else:
        assert (status, body) == (found.status, found.chain)
