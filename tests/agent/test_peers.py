"""Whom a real Envoy believes, as caller and as server, given the bundles that an agent serves: each authority for its own trust domain alone."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from envoy.config.listener.v3 import listener_components_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from forged_certificates import CLIENT, CODE, SERVER, forged
from free_ports import free_port
from google.protobuf import json_format

from isthmus.agent.certificates import Certificate
from isthmus.agent.envoy_binary import envoy_path
from isthmus.agent.secrets_server import SecretsServer
from isthmus.envoy import filters, guards, tls
from isthmus.envoy.bundles import Bundles, bundles, decode
from isthmus.envoy.common import packed
from isthmus.envoy.static import static_bootstrap
from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.model.services import Protocol
from isthmus.trust import x509

OWN, PARTNER = TrustDomain.parse("cluster.local"), TrustDomain.parse("partner.example")
LOCAL, LOCAL_TOO = "spiffe://cluster.local/ns/sample/sa/client", "spiffe://cluster.local/ns/sample/sa/admin"
FOREIGN, FOREIGN_TOO = "spiffe://partner.example/ns/sample/sa/client", "spiffe://partner.example/ns/sample/sa/admin"
DAY = timedelta(days=1)
ROOTS = {domain: x509.new_root(domain, datetime.now(UTC), DAY) for domain in (OWN, PARTNER)}
OURS, THEIRS = ROOTS[OWN], ROOTS[PARTNER]
SECONDS = 60.0
ANSWER = b"welcome"

FORGED = {
    "theirs, with a name of ours": (THEIRS, (LOCAL,)),
    "ours, with a name of theirs": (OURS, (FOREIGN,)),
    "theirs, a name of theirs and then of ours": (THEIRS, (FOREIGN, LOCAL)),
    "theirs, a name of ours and then of theirs": (THEIRS, (LOCAL, FOREIGN)),
    "ours, a name of ours and then of theirs": (OURS, (LOCAL, FOREIGN)),
    "ours, a name of theirs and then of ours": (OURS, (FOREIGN, LOCAL)),
    "theirs, a name of theirs and then nobody's": (THEIRS, (FOREIGN, f"spiffe://{tls.NOBODY}/")),
    "theirs, one name that has both": (THEIRS, (f"{FOREIGN},{LOCAL}",)),
    "theirs, a name of theirs and then no SPIFFE ID": (THEIRS, (FOREIGN, "https://cluster.local/")),
    "ours, without a name": (OURS, ()),
}
"""What nobody may be taken for anybody with: who signs it, and the URI names in it."""

Pair = tuple[str, str]


def shown(issuer: x509.Issuer, *names: str, usages: Any = (CLIENT, SERVER)) -> Pair:
    return forged(issuer, *names, usages=usages)


def own_certificate() -> Certificate:
    return Certificate(*shown(OURS, LOCAL), x509.certificate_pem(OURS.certificate))


def peers() -> Bundles:
    """As they arrive: through the control plane's resource."""
    der = x509.to_der(x509.certificate_pem(THEIRS.certificate))
    [(_, resource)] = bundles(((PARTNER, tuple(der)),))
    return decode(resource.body)


def context(purpose: int, pair: Pair, folder: Path) -> ssl.SSLContext:
    """Of somebody who believes everybody."""
    file = folder / "shown.pem"
    file.write_text("".join(pair))
    found = ssl.SSLContext(purpose)
    found.check_hostname, found.verify_mode = False, ssl.CERT_NONE
    found.load_cert_chain(file)
    return found


class Mesh:
    """One Envoy with its agent's secrets. `ports` are where it listens, by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports: dict[str, int] = {}
        self.agent = SecretsServer(folder / "sds.sock")
        self.open = AsyncExitStack()

    async def server(self, pair: Pair | None = None) -> int:
        """A server that answers whatever it is told; its port. With `pair`, it speaks TLS."""

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if await reader.read(100):
                writer.write(ANSWER)
            writer.close()

        secured = context(ssl.PROTOCOL_TLS_SERVER, pair, self.folder) if pair else None
        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=secured)
        self.open.callback(server.close)
        return int(server.sockets[0].getsockname()[1])

    async def start(self, listeners: Mapping[str, Any], clusters: Sequence[dict[str, Any]] = ()) -> None:
        """Listeners by name, each one chain."""
        written = [self._listener(name, chain) for name, chain in listeners.items()]
        document = static_bootstrap({"listeners": written, "clusters": list(clusters), "endpoints": [], "routes": []})
        text = json.dumps(document).replace("/nowhere", str(self.folder / "sds.sock"))
        file = self.folder / "envoy.json"
        file.write_text(text)
        command = [envoy_path(), "-c", str(file), "--use-dynamic-base-id", "--concurrency", "1", "-l", "error"]
        process = await asyncio.create_subprocess_exec(*command)
        self.open.push_async_callback(process.wait)
        self.open.callback(lambda: process.kill() if process.returncode is None else None)
        for port in self.ports.values():
            await until(partial(self._listens, port, process), True)

    async def _listens(self, port: int, envoy: asyncio.subprocess.Process) -> bool:
        assert envoy.returncode is None, "Envoy refused the configuration"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    def _listener(self, name: str, chain: Any) -> dict[str, Any]:
        self.ports[name] = port = free_port()
        address = {"socketAddress": {"address": "127.0.0.1", "portValue": port}}
        return {"name": name, "address": address, "filterChains": [json_format.MessageToDict(chain)]}


async def until(question: Callable[[], Awaitable[Any]], answer: Any) -> None:
    async with asyncio.timeout(SECONDS):
        while await question() != answer:  # noqa: ASYNC110 Another process is asked; it does not tell by itself.
            await asyncio.sleep(0.02)


@pytest.fixture
async def mesh(folder: Path) -> AsyncIterator[Mesh]:
    found = Mesh(folder)
    await found.agent.start()
    found.agent.put(own_certificate())
    found.agent.trust(peers())
    async with found.open:
        yield found
    await found.agent.stop()


def cluster(name: str, port: int, socket: Any = None) -> dict[str, Any]:
    address = {"socketAddress": {"address": "127.0.0.1", "portValue": port}}
    found = {
        "name": name,
        "connectTimeout": "5s",
        "loadAssignment": {
            "clusterName": name,
            "endpoints": [{"lbEndpoints": [{"endpoint": {"address": address}}]}],
        },
    }
    return found if socket is None else {**found, "transportSocket": json_format.MessageToDict(socket)}


def inbound(serve: Any, *domains: TrustDomain, http: bool) -> Any:
    """A chain as sidecars have them, for callers of these trust domains."""
    bundle = tls.bundle_of_callers(domains, one_bundle=False)
    return listener_components_pb2.FilterChain(
        filters=[*guards.of_peers(), serve], transport_socket=tls.server_socket(domains, http=http, bundle=bundle)
    )


def requests() -> Any:
    manager = http_connection_manager_pb2.HttpConnectionManager(stat_prefix="requests")
    route = manager.route_config.virtual_hosts.add(name="all", domains=["*"]).routes.add()
    route.match.prefix = "/"
    route.direct_response.status = 200
    manager.http_filters.add(name="envoy.filters.http.router").typed_config.Pack(router_pb2.Router())
    return listener_components_pb2.Filter(
        name="envoy.filters.network.http_connection_manager", typed_config=packed(manager)
    )


async def received(port: int, said: bytes, secured: ssl.SSLContext | None = None) -> bytes:
    """What comes back, until the other end closes."""
    try:
        async with asyncio.timeout(SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=secured)
            writer.write(said)
            found = await reader.read(100)
            writer.close()
            return found
    except (OSError, ssl.SSLError):
        return b""


async def test_callers_are_who_their_own_trust_domain_s_authority_says(mesh: Mesh) -> None:
    backend = await mesh.server()
    await mesh.start(
        {
            "bytes": inbound(filters.tcp("app", "app"), OWN, PARTNER, http=False),
            "requests": inbound(requests(), OWN, PARTNER, http=True),
        },
        [cluster("app", backend)],
    )

    async def served(pair: Pair) -> list[bool]:
        secured = context(ssl.PROTOCOL_TLS_CLIENT, pair, mesh.folder)
        answered = await received(mesh.ports["requests"], b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", secured)
        return [
            answered.startswith(b"HTTP/1.1 200"),
            await received(mesh.ports["bytes"], b"hello", secured) == ANSWER,
        ]

    assert await served(shown(OURS, LOCAL)) == [True, True]
    assert await served(shown(THEIRS, FOREIGN)) == [True, True]
    for name, (issuer, names) in FORGED.items():
        assert await served(shown(issuer, *names)) == [False, False], name
    assert await served(shown(OURS, LOCAL, LOCAL_TOO)) == [False, False], "two names of one trust domain"

    mesh.agent.trust({})
    await until(lambda: served(shown(THEIRS, FOREIGN)), [False, False])
    assert await served(shown(OURS, LOCAL)) == [True, True]


async def test_where_callers_of_one_trust_domain_are_let_in_its_authority_vouches_for_them_alone(mesh: Mesh) -> None:
    await mesh.start({"in": inbound(requests(), OWN, http=True)})

    async def served(pair: Pair) -> bool:
        secured = context(ssl.PROTOCOL_TLS_CLIENT, pair, mesh.folder)
        answered = await received(mesh.ports["in"], b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", secured)
        return answered.startswith(b"HTTP/1.1 200")

    assert await served(shown(OURS, LOCAL))
    refused = FORGED | {"another trust domain's own": (THEIRS, (FOREIGN,)), "two names": (OURS, (LOCAL, LOCAL_TOO))}
    assert {name for name, (issuer, names) in refused.items() if await served(shown(issuer, *names))} == set()


async def test_servers_are_who_their_own_trust_domain_s_authority_says(mesh: Mesh) -> None:
    """Called as what a service of ours, one of theirs, and one without any workload are called."""
    good = {"ours": (OURS, (LOCAL,)), "theirs": (THEIRS, (FOREIGN,))}
    servers = {name: await mesh.server(shown(issuer, *names)) for name, (issuer, names) in (good | FORGED).items()}
    called = {"our": (LOCAL,), "their": (FOREIGN,), "nobody": ()}
    ways = {f"{whose} service, answered by {name}": (whose, name) for whose in called for name in servers}

    def expecting(whose: str) -> Any:
        identities = [SpiffeId.parse(name) for name in called[whose]]
        return tls.client_socket("", identities, Protocol.TCP, bundle=tls.bundle_name(identities))

    await mesh.start(
        {way: listener_components_pb2.FilterChain(filters=[filters.tcp(way, way)]) for way in ways},
        [cluster(way, servers[name], expecting(whose)) for way, (whose, name) in ways.items()],
    )

    answered = {ways[way] for way in ways if await received(mesh.ports[way], b"hello") == ANSWER}
    assert answered >= {("our", "ours"), ("their", "theirs")}
    vouching = {"our": OURS, "their": THEIRS}
    assert [
        each for each in answered if FORGED.get(each[1], (vouching.get(each[0]),))[0] is not vouching.get(each[0])
    ] == []
    assert {whose for whose, _ in answered} == {"our", "their"}, "nobody answers for nobody"


@pytest.mark.parametrize(
    ("usage", "calls", "answers"), [(CLIENT, True, False), (SERVER, False, True), (CODE, False, False)]
)
async def test_a_certificate_is_taken_for_its_own_use_alone(mesh: Mesh, usage: Any, calls: bool, answers: bool) -> None:
    """As it is for callers where one trust domain's are let in, and for servers of one trust domain."""
    server = await mesh.server(shown(OURS, LOCAL, usages=(usage,)))
    local = [SpiffeId.parse(LOCAL)]
    client = tls.client_socket("", local, Protocol.TCP, bundle=tls.bundle_name(local))
    await mesh.start(
        {
            "in": inbound(requests(), OWN, http=True),
            "out": listener_components_pb2.FilterChain(filters=[filters.tcp("out", "out")]),
        },
        [cluster("out", server, client)],
    )
    secured = context(ssl.PROTOCOL_TLS_CLIENT, shown(OURS, LOCAL, usages=(usage,)), mesh.folder)

    answered = await received(mesh.ports["in"], b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", secured)
    assert answered.startswith(b"HTTP/1.1 200") is calls
    assert (await received(mesh.ports["out"], b"hello") == ANSWER) is answers


@pytest.mark.parametrize("usage", [SERVER, CODE])
async def test_where_callers_of_several_trust_domains_are_let_in_usages_make_no_difference(
    mesh: Mesh, usage: Any
) -> None:
    """Envoy's SPIFFE validator does not look at them (1.40). If it does one day, docs/security.md is to say so."""
    await mesh.start({"in": inbound(requests(), OWN, PARTNER, http=True)})
    secured = context(ssl.PROTOCOL_TLS_CLIENT, shown(OURS, LOCAL, usages=(usage,)), mesh.folder)

    assert (await received(mesh.ports["in"], b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", secured)).startswith(b"HTTP/1.1 200")


def test_a_bundle_for_the_own_trust_domain_from_elsewhere_adds_nothing() -> None:
    own = own_certificate()
    foreign = x509.to_der(x509.certificate_pem(THEIRS.certificate))

    assert own.trusted_with({OWN: foreign}) == {OWN: x509.to_der(own.roots_pem)}
