"""What a `cacerts` Secret must hold, and what callers are given."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509 as raw
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from revocation_lists import revoking

from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.trust import x509
from isthmus.trust.authority import CertificateAuthority

HOUR = timedelta(hours=1)
ALICE = SpiffeId.parse("spiffe://cluster.local/ns/default/sa/alice")


def pem(*issuers: x509.Issuer) -> str:
    return "".join(x509.certificate_pem(issuer.certificate) for issuer in issuers)


@pytest.fixture
def east(root, now):
    return x509.new_intermediate(root, "east", now, 100 * HOUR)


def test_a_plugged_in_intermediate_signs_with_the_chain_up_to_the_root(root, east, now):
    authority = CertificateAuthority.from_pem(
        certificate=pem(east), key=x509.key_pem(east.key), chain=pem(east, root), root=pem(root)
    )

    leaf, *rest = authority.sign(x509.new_request(x509.new_key()), ALICE, now, HOUR)

    assert x509.identity_of(leaf) == ALICE
    assert rest == [pem(east), pem(root)], "each once, roots last"


def test_an_issuer_is_named_as_its_own_certificate_names_its_key(domain, now):
    """Go makes that name in another way than OpenSSL, and istiod's root is made by Go: under another name nobody finds the issuer."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = raw.Name([raw.NameAttribute(NameOID.ORGANIZATION_NAME, str(domain))])
    builder = raw.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - HOUR).not_valid_after(now + 100 * HOUR)
    builder = builder.add_extension(raw.BasicConstraints(ca=True, path_length=None), critical=True)
    named = builder.add_extension(raw.SubjectKeyIdentifier(b"by another way"), critical=False)
    root = pem(x509.Issuer(named.sign(key, hashes.SHA256()), key))
    authority = CertificateAuthority.from_pem(certificate=root, key=x509.key_pem(key), chain="", root=root)

    leaf, *_ = authority.sign(x509.new_request(x509.new_key()), ALICE, now, HOUR)

    known_by = raw.load_pem_x509_certificate(leaf.encode()).extensions.get_extension_for_class(
        raw.AuthorityKeyIdentifier
    )
    assert known_by.value.key_identifier == b"by another way"


def test_a_root_that_signs_by_itself_is_not_sent_twice(authority, now):
    chain = authority.sign(x509.new_request(x509.new_key()), ALICE, now, HOUR)

    assert chain[1:] == [authority.root_pem]


def test_a_chain_is_put_in_order_and_what_does_not_belong_to_it_is_left_out(domain, root, east, now, forge):
    top = x509.new_root(domain, now, 1000 * HOUR)
    crossed = forge.crossed(top, root, now)
    stranger = x509.new_root(domain, now, HOUR)

    authority = CertificateAuthority.from_pem(
        certificate=pem(east), key=x509.key_pem(east.key), chain=pem(stranger) + crossed, root=pem(top, stranger)
    )

    assert [x509.certificate_pem(found) for found in authority.issuer.intermediates] == [crossed]
    assert authority.root_pem == pem(top, stranger), "every root is trusted"


def test_the_serving_certificate_is_shown_with_its_intermediates(root, east, now):
    authority = CertificateAuthority.from_pem(
        certificate=pem(east), key=x509.key_pem(east.key), chain="", root=pem(root)
    )

    serving = authority.serving_certificate(["istiod.istio-system.svc"], now)
    leaf, above = x509.parse_certificates(serving.chain_pem)

    assert x509.matches(leaf, x509.parse_key(serving.key_pem))
    assert above == east.certificate


def test_no_certificate_outlives_the_authority(east, authority, now):
    forever = 100_000 * HOUR

    leaf = authority.sign(x509.new_request(x509.new_key()), ALICE, now, forever)[0]

    assert x509.facts_of(leaf).not_after == authority.not_after


def test_a_key_of_another_certificate_is_refused(root, east):
    with pytest.raises(x509.BadCertificate, match=r"ca-key\.pem is not the key of ca-cert\.pem"):
        CertificateAuthority.from_pem(
            certificate=pem(east), key=x509.key_pem(root.key), chain=pem(root), root=pem(root)
        )


def test_a_root_that_did_not_sign_is_refused(domain, east, now):
    """Every workload would trust that root, and no other workload."""
    stranger = x509.new_root(domain, now, HOUR)

    with pytest.raises(x509.BadCertificate, match="does not lead"):
        CertificateAuthority.from_pem(
            certificate=pem(east), key=x509.key_pem(east.key), chain=pem(east), root=pem(stranger)
        )


def test_a_leaf_is_no_authority(root, now):
    key = x509.new_key()
    leaf = x509.certificate_pem(x509.sign_workload(root, key.public_key(), ALICE, now, HOUR))

    with pytest.raises(x509.BadCertificate, match="not the certificate of an authority"):
        CertificateAuthority.from_pem(certificate=leaf, key=x509.key_pem(key), chain="", root=pem(root))


@pytest.mark.parametrize("broken", ["certificate", "key", "chain", "root"])
def test_a_part_that_is_not_pem_is_refused(root, east, broken):
    parts = {"certificate": pem(east), "key": x509.key_pem(east.key), "chain": pem(root), "root": pem(root)}

    with pytest.raises(x509.BadCertificate):
        CertificateAuthority.from_pem(**parts | {broken: "not PEM"})


def test_revocation_lists_come_with_the_authority(root, east, now):
    lists = revoking(root, now=now) + revoking(east, now=now)
    files = {"ca-cert.pem": pem(east), "ca-key.pem": x509.key_pem(east.key), "root-cert.pem": pem(root)}

    assert CertificateAuthority.from_files(files | {"ca-crl.pem": lists}, now).crl_pem == lists.strip()
    assert CertificateAuthority.from_files(files | {"ca-crl.pem": "\n"}, now).crl_pem == ""


def test_revocation_lists_that_would_refuse_everything_are_refused(root, east, now):
    """Who checks them refuses what there is no list about, and what there was one about."""
    files = {"ca-cert.pem": pem(east), "ca-key.pem": x509.key_pem(east.key), "root-cert.pem": pem(root)}

    def refused(*lists: str) -> str:
        with pytest.raises(x509.BadCertificate) as error:
            CertificateAuthority.from_files(files | {"ca-crl.pem": "".join(lists)}, now)
        return str(error.value)

    assert "no revocation list of CN=Intermediate CA east" in refused(revoking(root, now=now))
    assert "no revocation list of CN=Root CA" in refused(revoking(east, now=now))
    assert "has run out" in refused(revoking(root, now=now), revoking(east, now=now, until=-HOUR))
    assert "no revocation list" in refused("not PEM")
    torn = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"
    assert "cannot be read" in refused(torn)
    other = x509.new_root(root_domain(root), now, HOUR)
    assert "no revocation list of CN=Root CA" in refused(revoking(other, now=now), revoking(east, now=now)), (
        "of its name, not of its key"
    )


def root_domain(root: x509.Issuer) -> TrustDomain:
    return TrustDomain.parse(x509.organization(root.certificate))
