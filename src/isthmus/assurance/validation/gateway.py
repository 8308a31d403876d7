"""What a Gateway means beyond its shape, and what a server's TLS settings need."""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.assurance.catalogue import validation as codes
from isthmus.assurance.validation.problems import Problem
from isthmus.assurance.validation.terms import Object, bad_host, bad_socket_path, dns_label, positive_port
from isthmus.model.addresses import is_ip
from isthmus.model.gateways import is_certificate_hash, is_key_hash

_PROTOCOLS = {
    "http", "https", "grpc", "grpc-web", "http2", "tcp", "tls", "mongo", "mysql", "redis", "udp", "hbone", "auto",
    "http_proxy", "http3",
}  # fmt: skip
_KEYED = {"SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL"}
_VERSIONS = ("TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3")
# What Envoy (BoringSSL) knows: CommonTlsContext's tls_params.cipher_suites.
_CIPHERS = {
    f"{exchange}{cipher}"
    for exchange in ("ECDHE-ECDSA-", "ECDHE-RSA-", "")
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "AES128-SHA", "AES256-SHA")
} | {"ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305", "DES-CBC3-SHA"}


def gateway(item: Object) -> Iterator[Problem]:
    servers = (item.get("spec") or {}).get("servers") or []
    if not servers:
        yield Problem(codes.MISSING, "spec.servers", "at least one is required")
    ports: dict[str, int] = {}
    names: dict[str, int] = {}
    for index, server in enumerate(servers):
        path = f"spec.servers[{index}]"
        yield from _server(server, path)
        for label, given, where in (
            ("port name", server["port"].get("name"), ports),
            ("name", server.get("name"), names),
        ):
            if given and given in where:
                yield Problem(
                    codes.TWICE,
                    f"{path}.port.name" if where is ports else f"{path}.name",
                    f"{label} {given!r} is given twice, first by servers[{where[given]}]",
                )
            elif given:
                where[given] = index


def _server(server: Object, path: str) -> Iterator[Problem]:
    port, tls, bind = server["port"], server.get("tls"), server.get("bind") or ""
    on_socket = bind.startswith("unix://")
    yield from port_of(port, f"{path}.port", may_be_zero=on_socket)
    if not on_socket and bind and not is_ip(bind):
        yield Problem(codes.NOT_AN_ADDRESS, f"{path}.bind", f"{bind!r} is neither an address nor a socket")
    if on_socket and bad_socket_path(bind):
        yield Problem(codes.NOT_AN_ADDRESS, f"{path}.bind", bad_socket_path(bind))
    if on_socket and port.get("number"):
        yield Problem(codes.CONTRADICTION, f"{path}.port.number", "must be 0 for a socket")
    yield from _hosts(server, path)
    protocol = str(port.get("protocol", "")).lower()
    if protocol in ("https", "tls") and tls is None:
        yield Problem(codes.NEEDS, f"{path}.tls", f"tls: is required for {protocol}", "add tls with a mode")
    plain = protocol in ("http", "http2", "grpc", "grpc-web")
    if plain and (tls or {}).get("mode"):
        yield Problem(
            codes.CONTRADICTION, f"{path}.tls", f"a server of {protocol} has none", "use HTTPS, or leave tls out"
        )
    if (tls or {}).get("httpsRedirect") and not plain:
        yield Problem(codes.HAS_NO_EFFECT, f"{path}.tls.httpsRedirect", "redirects from plain HTTP servers only")
    if tls and tls.get("mode", "PASSTHROUGH" if protocol != "https" else "SIMPLE"):
        yield from server_tls(tls, f"{path}.tls")


def _hosts(server: Object, path: str) -> Iterator[Problem]:
    if not server["hosts"]:
        yield Problem(codes.MISSING, f"{path}.hosts", "at least one is required")
    for index, host in enumerate(server["hosts"]):
        where = f"{path}.hosts[{index}]"
        namespace, slash, name = host.rpartition("/")
        if slash and namespace not in ("*", ".") and not dns_label(namespace):
            yield Problem(codes.NOT_A_NAME, where, f"{namespace!r} is not a namespace")
        if bad_host(name):
            yield Problem(codes.NOT_A_HOST, where, bad_host(name))
        elif "." not in name and not name.startswith("*"):
            yield Problem(codes.NOT_A_HOST, where, f"{name!r}: short names are not supported", "write the full name")
        if host in server["hosts"][:index]:
            yield Problem(codes.HAS_NO_EFFECT, where, f"{host!r} is given twice", "keep one")


def server_tls(tls: Object, path: str) -> Iterator[Problem]:
    mode = tls.get("mode")
    yield from _versions_and_ciphers(tls, path)
    yield from _hashes(tls, path)
    named = [
        key for key in ("credentialName", "credentialNames", "serverCertificate", "tlsCertificates") if tls.get(key)
    ]
    if mode == "ISTIO_MUTUAL" and (named or tls.get("privateKey") or tls.get("caCertificates")):
        yield Problem(codes.BAD_CREDENTIALS, path, "ISTIO_MUTUAL brings its own certificates")
    if mode not in _KEYED:
        return
    if len(named) > 1:
        yield Problem(codes.BAD_CREDENTIALS, path, f"one of {', '.join(named)} may be set")
    for several in ("credentialNames", "tlsCertificates"):
        if len(tls.get(several) or []) > 2:
            yield Problem(codes.OUT_OF_BOUNDS, f"{path}.{several}", "at most 2, one RSA and one ECDSA")
    if "credentialName" in named or "credentialNames" in named:
        return
    pairs = tls.get("tlsCertificates") or [tls]
    for pair in pairs:
        if not pair.get("serverCertificate") or not pair.get("privateKey"):
            yield Problem(
                codes.BAD_CREDENTIALS,
                path,
                f"{mode} needs a server certificate and a private key",
                "set credentialName, or serverCertificate and privateKey",
            )
    if mode != "SIMPLE" and not tls.get("caCertificates") and not tls.get("caCertCredentialName"):
        yield Problem(codes.BAD_CREDENTIALS, path, f"{mode} needs caCertificates", "set caCertificates")


def _hashes(tls: Object, path: str) -> Iterator[Problem]:
    for field, is_one, what in (
        ("verifyCertificateHash", is_certificate_hash, "the SHA-256 of a certificate, in hexadecimal digits"),
        ("verifyCertificateSpki", is_key_hash, "the SHA-256 of a public key, in base64"),
    ):
        for index, text in enumerate(tls.get(field) or []):
            if not is_one(str(text)):
                yield Problem(codes.MALFORMED, f"{path}.{field}[{index}]", f"{text!r} is not {what}")


def _versions_and_ciphers(tls: Object, path: str) -> Iterator[Problem]:
    low, high = tls.get("minProtocolVersion"), tls.get("maxProtocolVersion")
    if low in _VERSIONS and high in _VERSIONS and _VERSIONS.index(low) > _VERSIONS.index(high):
        yield Problem(codes.CONTRADICTION, f"{path}.minProtocolVersion", f"{low} is above maxProtocolVersion, {high}")
    if low in ("TLSV1_0", "TLSV1_1"):
        yield Problem(codes.RISKY, f"{path}.minProtocolVersion", f"{low} is not safe", "use TLSV1_2 or above")
    suites = tls.get("cipherSuites") or []
    for index, suite in enumerate(suites):
        if suite not in _CIPHERS:
            yield Problem(codes.HAS_NO_EFFECT, f"{path}.cipherSuites[{index}]", f"{suite!r} is not a suite of Envoy's")
        elif suite in suites[:index]:
            yield Problem(codes.HAS_NO_EFFECT, f"{path}.cipherSuites[{index}]", f"{suite!r} is given twice")


def port_of(port: Object, path: str, may_be_zero: bool = False) -> Iterator[Problem]:
    """Of a server, a listener or a ServiceEntry."""
    if not may_be_zero:
        yield from positive_port(port.get("number"), f"{path}.number")
    if port.get("protocol") and port["protocol"].lower() not in _PROTOCOLS:
        yield Problem(
            codes.BAD_PORT,
            f"{path}.protocol",
            f"{port['protocol']!r} is not known",
            "use HTTP, HTTPS, GRPC, HTTP2, MONGO, MYSQL, REDIS, TCP or TLS",
        )
    if not port.get("name"):
        yield Problem(codes.MISSING, f"{path}.name", "is required")
