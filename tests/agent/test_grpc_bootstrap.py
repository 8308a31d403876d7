"""What a gRPC application without a proxy finds: its bootstrap, and a certificate that is its user's alone."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from isthmus.agent.certificates import Certificate
from isthmus.agent.grpc_bootstrap import CertificateFiles, grpc_bootstrap, write_certificate
from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.trust import x509
from isthmus.trust.authority import CertificateAuthority


def test_control_planes_are_named_in_order_and_the_node_says_what_it_is(tmp_path):
    node = {"id": "sidecar~10.0.0.1~a.ns~ns.svc.cluster.local", "metadata": {"CLUSTER_ID": "east"}}

    found = json.loads(grpc_bootstrap(node, ["one:15013", "two:15013"], CertificateFiles(tmp_path)))

    assert [server["server_uri"] for server in found["xds_servers"]] == ["one:15013", "two:15013"]
    assert found["node"]["metadata"] == {"CLUSTER_ID": "east", "GENERATOR": "grpc"}
    assert found["certificate_providers"]["default"]["config"]["private_key_file"] == str(tmp_path / "key.pem")
    assert found["server_listener_resource_name_template"] == "xds.istio.io/grpc/lds/inbound/%s"


def test_a_renewed_certificate_takes_the_place_of_the_old_one(tmp_path):
    authority = CertificateAuthority.self_signed(TrustDomain("cluster.local"), datetime.now(UTC))
    identity = SpiffeId.parse("spiffe://cluster.local/ns/ns/sa/a")
    files = CertificateFiles(tmp_path)

    def issued() -> Certificate:
        key = x509.new_key()
        chain = authority.sign(x509.new_request(key), identity, datetime.now(UTC), timedelta(hours=1))
        return Certificate("".join(chain[:-1]), x509.key_pem(key), chain[-1])

    write_certificate(issued(), files)
    second = issued()
    write_certificate(second, files)

    assert files.chain.read_text() == second.chain_pem
    assert files.key.read_text() == second.key_pem
    assert files.key.stat().st_mode & 0o777 == 0o600
    assert json.loads(files.bundles.read_text())["trust_domains"].keys() == {"cluster.local"}
    assert {path.name for path in tmp_path.iterdir()} == {
        "cert-chain.pem",
        "key.pem",
        "root-cert.pem",
        "spiffe-bundles.json",
    }
