"""Mutual TLS: what the two ends of a connection between workloads ask of each other.

ALPN without Istio's own Envoy filter (measured): the client *offers* the mesh's names and the protocol, the server *selects* from `h2` and
`http/1.1` only. The server's filter chains match what was offered, so `istio` tells the mesh's connections from an application's own TLS,
`istio-http/1.1` and `istio-h2` tell requests from bytes on a port of undeclared protocol, and what is selected is a protocol that both
Envoys' codecs know.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache

from envoy.config.core.v3 import base_pb2
from envoy.extensions.transport_sockets.raw_buffer.v3 import raw_buffer_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, secret_pb2, tls_pb2
from envoy.type.matcher.v3 import string_pb2

from isthmus.envoy.common import boolean, from_ads, from_agent, packed
from isthmus.model.gateways import ServerTls, TlsMode
from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.model.services import Protocol
from isthmus.model.traffic import TlsOrigination

WORKLOAD_CERTIFICATE = "default"
TRUST_BUNDLE = "ROOTCA"
"""Every trust domain's authorities: for callers, who may be of any."""
CONTROL_PLANE_ROOTS = "control-plane"
"""Secrets that the agent serves: the last is what the control plane is checked against."""

_SCHEME, _BETWEEN = "spiffe://", ","

MESH_HTTP = ("istio-http/1.0", "istio-http/1.1", "istio-h2")
"""What a mesh client offers when it sends requests; Istio's own sidecars do too."""

MESH_TCP = ("istio-peer-exchange", "istio")
"""What every mesh client offers. The first is Istio's alone: we match it, and never select it."""

MESH_ANY = MESH_TCP + MESH_HTTP

MESH_THROUGH_GATEWAY = (*MESH_ANY, "h2")
"""gRPC applications without a proxy offer no more than the last. Who may talk to whom is decided at both ends, not by what is offered."""

DETECTED_HTTP = ("istio-http/1.1", "istio")
"""Offered for requests on a port of undeclared protocol: nothing to select, so the server looks at the first bytes instead."""

_SYSTEM_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
"""Where Debian, and Envoy's own images, keep them."""

NOBODY = TrustDomain.parse("nobody.invalid")
"""Whose identities nobody has."""

CREDENTIAL = "kubernetes://"
"""Before the name of a Secret of the gateway's namespace, as Istio's agents ask for it."""

GATEWAY_CREDENTIAL = "kubernetes-gateway://"
"""Before namespace and name of a Secret that a Gateway API Gateway refers to."""

AUTHORITIES = "-cacert"
"""Behind it, for the authorities that callers are asked for."""

CERTIFICATE_FILES = "file-cert:"
"""Before the names of two files on the proxy's machine, a certificate and its key; as Istio calls it."""

AUTHORITY_FILES = "file-root:"
"""Before the name of a file of authorities, and perhaps of one of revocations."""

_VERSIONS = {
    "TLSV1_0": common_pb2.TlsParameters.TLSv1_0,
    "TLSV1_1": common_pb2.TlsParameters.TLSv1_1,
    "TLSV1_2": common_pb2.TlsParameters.TLSv1_2,
    "TLSV1_3": common_pb2.TlsParameters.TLSv1_3,
}

_CIPHERS = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
)


def client_socket(
    sni: str, identities: Sequence[SpiffeId], protocol: Protocol, *, bundle: str
) -> base_pb2.TransportSocket:
    """The calling end: shows its workload's certificate, and takes only these identities for an answer.

    None known means nobody, not anybody: Envoy takes an empty list for the latter. `bundle` is that of `bundle_name`, which has these identities'
    trust domains alone: Envoy chooses among a bundle's authorities by the first URI name of a certificate and takes any of them for the
    expected one, so with a larger bundle another trust domain's authority could vouch for the second. The one bundle of an agent of Istio's,
    `TRUST_BUNDLE`, has authorities of its own trust domain only, and does for its identities.
    """
    common = _common(_offered(protocol), expected(identities), bundle)
    # Who answers takes none but these: said there, they need not be said in each upstream (116 bytes).
    common.tls_params.ClearField("cipher_suites")
    context = tls_pb2.UpstreamTlsContext(common_tls_context=common, sni=sni)
    return base_pb2.TransportSocket(name="envoy.transport_sockets.tls", typed_config=packed(context))


def expected(identities: Sequence[SpiffeId]) -> list[str]:
    """The names that an answering end may show; one that nobody has, where none are known."""
    return [str(identity) for identity in identities] or [f"spiffe://{NOBODY}/"]


def bundle_name(identities: Iterable[SpiffeId]) -> str:
    """What the agent is asked for to judge these: the trust domains' own SPIFFE IDs."""
    domains = sorted({identity.trust_domain for identity in identities}) or [NOBODY]
    return _BETWEEN.join(f"{_SCHEME}{domain}" for domain in domains)


def bundle_of_callers(trust_domains: Sequence[TrustDomain], *, one_bundle: bool) -> str:
    """What callers of these trust domains are judged by; with `one_bundle`, the agent has no other than that for all."""
    if one_bundle or len(trust_domains) != 1:
        return TRUST_BUNDLE
    return f"{_SCHEME}{trust_domains[0]}"


def domains_named(bundle: str) -> frozenset[TrustDomain] | None:
    """The trust domains in a name that `bundle_name` made; None for any other."""
    parts = bundle.split(_BETWEEN)
    if not all(part.startswith(_SCHEME) for part in parts):
        return None
    try:
        return frozenset(TrustDomain.parse(part.removeprefix(_SCHEME)) for part in parts)
    except ValueError:
        return None


def originating_socket(
    said: TlsOrigination, sni: str, names: Sequence[str], protocol: Protocol
) -> base_pb2.TransportSocket:
    """TLS with a server beyond the mesh: its own names, authorities that are not the mesh's, and perhaps a certificate of ours."""
    common = tls_pb2.CommonTlsContext(
        alpn_protocols=("h2",) if protocol.is_http2 else ("http/1.1",) if protocol.is_http else (),
        tls_params=common_pb2.TlsParameters(
            tls_minimum_protocol_version=common_pb2.TlsParameters.TLSv1_2,
            tls_maximum_protocol_version=common_pb2.TlsParameters.TLSv1_3,
        ),
    )
    if said.mutual and said.credential:
        common.tls_certificate_sds_secret_configs.add(name=secret_name(said.credential), sds_config=from_ads())
    elif said.mutual and said.certificate:
        name = certificate_files(said.certificate, said.private_key)
        common.tls_certificate_sds_secret_configs.add(name=name, sds_config=from_ads())
    if said.verify and said.credential:
        _judge_by_secret(common, f"{secret_name(said.credential)}{AUTHORITIES}", names)
    elif said.verify and _judges_by_files(said):
        _judge_by_secret(common, authority_files(said.ca_certificates, said.revocations), names)
    elif said.verify:
        context = common.validation_context
        if said.authorities:
            context.trusted_ca.inline_string = said.authorities
        else:
            context.trusted_ca.filename = _SYSTEM_AUTHORITIES
        context.match_typed_subject_alt_names.extend(_named(names))
    context = tls_pb2.UpstreamTlsContext(common_tls_context=common, sni=sni)
    return base_pb2.TransportSocket(name="envoy.transport_sockets.tls", typed_config=packed(context))


def secrets_of(said: TlsOrigination) -> Iterator[str]:
    """The names of the secrets that `originating_socket` asks for."""
    if said.mutual and said.credential:
        yield secret_name(said.credential)
    elif said.mutual and said.certificate:
        yield certificate_files(said.certificate, said.private_key)
    if said.verify and said.credential:
        yield f"{secret_name(said.credential)}{AUTHORITIES}"
    elif said.verify and _judges_by_files(said):
        yield authority_files(said.ca_certificates, said.revocations)


def secrets_shown(said: ServerTls) -> Iterator[str]:
    """The names of the secrets that `gateway_socket` asks for; the workload's own are the agent's."""
    if said.mode in (TlsMode.ISTIO_MUTUAL, TlsMode.PASSTHROUGH) or said.shows_workload:
        return
    yield from map(secret_name, said.credentials)
    if not said.credentials:
        yield certificate_files(said.certificate, said.private_key)
    if said.asks_for_certificates and not said.authorities_pem:
        yield authorities_name(said)


def certificate_files(certificate: str, private_key: str) -> str:
    """What a proxy asks for two files of its own machine by. Envoy reads files of a secret again when they change, and no others."""
    return f"{CERTIFICATE_FILES}{certificate}~{private_key}"


def authority_files(authorities: str, revocations: str) -> str:
    """The same of authorities, the system's where none are named, and of what they have revoked."""
    return f"{AUTHORITY_FILES}{authorities or _SYSTEM_AUTHORITIES}" + (f"~{revocations}" if revocations else "")


def _judges_by_files(said: TlsOrigination) -> bool:
    """Other files than the system's authorities, which no update of a certificate replaces."""
    return not said.authorities and bool(said.ca_certificates or said.revocations)


def _judge_by_secret(common: tls_pb2.CommonTlsContext, secret: str, names: Sequence[str]) -> None:
    combined = common.combined_validation_context
    combined.default_validation_context.match_typed_subject_alt_names.extend(_named(names))
    combined.validation_context_sds_secret_config.name = secret
    combined.validation_context_sds_secret_config.sds_config.CopyFrom(from_ads())


def server_socket(
    trust_domains: Sequence[TrustDomain] = (), *, http: bool, bundle: str = TRUST_BUNDLE
) -> base_pb2.TransportSocket:
    """The answering end: demands a certificate that its bundle vouches for, of one of the trust domains, where any are named.

    A bundle of one trust domain alone (`bundle_of_callers`) is for callers of that one.
    """
    common = _common(("h2", "http/1.1") if http else (), (), bundle)
    common.combined_validation_context.default_validation_context.match_typed_subject_alt_names.extend(
        common_pb2.SubjectAltNameMatcher(
            san_type=common_pb2.SubjectAltNameMatcher.URI,
            matcher=string_pb2.StringMatcher(prefix=f"spiffe://{domain}/"),
        )
        for domain in trust_domains
    )
    context = tls_pb2.DownstreamTlsContext(
        common_tls_context=common,
        require_client_certificate=boolean(True),
    )
    return base_pb2.TransportSocket(name="envoy.transport_sockets.tls", typed_config=packed(context))


def web_socket(host: str) -> base_pb2.TransportSocket:
    """HTTPS with a server of the wide world, under its own name."""
    return originating_socket(TlsOrigination(mutual=False), host, (host,), Protocol.TCP)


def gateway_socket(
    said: ServerTls, *, http: bool, trust_domains: Sequence[TrustDomain] = (), bundle: str = TRUST_BUNDLE
) -> base_pb2.TransportSocket:
    """What an ingress gateway shows its callers, and what it asks of them. Workloads' certificates are judged by `bundle`."""
    if said.mode is TlsMode.ISTIO_MUTUAL:
        return server_socket(trust_domains, http=http, bundle=bundle)
    common = tls_pb2.CommonTlsContext(
        alpn_protocols=("h2", "http/1.1") if http else (),
        tls_params=common_pb2.TlsParameters(
            tls_minimum_protocol_version=_VERSIONS.get(said.minimum, common_pb2.TlsParameters.TLSv1_2),
            tls_maximum_protocol_version=_VERSIONS.get(said.maximum, common_pb2.TlsParameters.TLSv1_3),
            cipher_suites=said.ciphers or _CIPHERS,
        ),
    )
    if said.shows_workload:
        common.tls_certificate_sds_secret_configs.add(name=WORKLOAD_CERTIFICATE, sds_config=from_agent())
    elif said.credentials:
        for name in said.credentials:
            common.tls_certificate_sds_secret_configs.add(name=secret_name(name), sds_config=from_ads())
    else:
        name = certificate_files(said.certificate, said.private_key)
        common.tls_certificate_sds_secret_configs.add(name=name, sds_config=from_ads())
    if said.asks_for_certificates and said.authorities_pem:
        common.validation_context.trusted_ca.inline_string = said.authorities_pem
        common.validation_context.match_typed_subject_alt_names.extend(_named(said.names))
    elif said.asks_for_certificates:
        _judge_by_secret(common, authorities_name(said), said.names)
        judged = common.combined_validation_context.default_validation_context
        judged.verify_certificate_hash.extend(said.certificate_hashes)
        judged.verify_certificate_spki.extend(said.key_hashes)
    context = tls_pb2.DownstreamTlsContext(
        common_tls_context=common, require_client_certificate=boolean(said.mode is TlsMode.MUTUAL)
    )
    return base_pb2.TransportSocket(name="envoy.transport_sockets.tls", typed_config=packed(context))


def secret_name(credential: str) -> str:
    """What a gateway asks for a Secret by."""
    return f"{GATEWAY_CREDENTIAL if '/' in credential else CREDENTIAL}{credential}"


def authorities_name(said: ServerTls) -> str:
    """The same for the authorities by which callers are judged."""
    if not said.credentials:
        return authority_files(said.ca_certificates, said.revocations)
    return f"{secret_name(said.authorities or said.credentials[0])}{AUTHORITIES}"


def _named(names: Sequence[str]) -> list[common_pb2.SubjectAltNameMatcher]:
    """A name may be of a host or of a workload."""
    kinds = (common_pb2.SubjectAltNameMatcher.DNS, common_pb2.SubjectAltNameMatcher.URI)
    return [
        common_pb2.SubjectAltNameMatcher(san_type=kind, matcher=string_pb2.StringMatcher(exact=name))
        for name in names
        for kind in kinds
    ]


@cache
def plain_socket() -> base_pb2.TransportSocket:
    """To copy, not to change."""
    return base_pb2.TransportSocket(
        name="envoy.transport_sockets.raw_buffer", typed_config=packed(raw_buffer_pb2.RawBuffer())
    )


def _offered(protocol: Protocol) -> tuple[str, ...]:
    if protocol.is_http2:
        return ("istio-h2", "istio", "h2")
    return ("istio-http/1.1", "istio", "http/1.1") if protocol.is_http else ("istio",)


def _common(alpn: tuple[str, ...], identities: Sequence[str], bundle: str) -> tls_pb2.CommonTlsContext:
    """The bundle comes from the agent; the names to expect are the upstream's own, so one bundle serves all upstreams of a trust domain."""
    found = tls_pb2.CommonTlsContext()
    found.CopyFrom(_of_anybody(alpn, bundle))
    names = found.combined_validation_context.default_validation_context.match_typed_subject_alt_names
    for identity in identities:
        names.add(san_type=common_pb2.SubjectAltNameMatcher.URI).matcher.exact = identity
    return found


@cache
def _of_anybody(alpn: tuple[str, ...], bundle: str) -> tls_pb2.CommonTlsContext:
    """To copy, not to change."""
    return tls_pb2.CommonTlsContext(
        alpn_protocols=alpn,
        tls_params=common_pb2.TlsParameters(
            tls_minimum_protocol_version=common_pb2.TlsParameters.TLSv1_2,
            # An upstream context's own default ends at TLS 1.2 (Envoy 1.40).
            tls_maximum_protocol_version=common_pb2.TlsParameters.TLSv1_3,
            cipher_suites=_CIPHERS,
        ),
        tls_certificate_sds_secret_configs=[
            secret_pb2.SdsSecretConfig(name=WORKLOAD_CERTIFICATE, sds_config=from_agent())
        ],
        combined_validation_context=tls_pb2.CommonTlsContext.CombinedCertificateValidationContext(
            default_validation_context=common_pb2.CertificateValidationContext(),
            validation_context_sds_secret_config=secret_pb2.SdsSecretConfig(name=bundle, sds_config=from_agent()),
        ),
    )
