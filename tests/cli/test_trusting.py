"""`isthmus trust` on real API servers: what their objects say, and who does not answer."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner, Result

from isthmus.cli.app import isthmus
from isthmus.cli.trust_horizons import in_proxies
from isthmus.envoy.tls import NOBODY
from isthmus.kubernetes.kubeconfig import ContextEntry, render
from isthmus.localruntime.mesh_client import MeshClient
from isthmus.model.identity import TrustDomain
from isthmus.trust import x509
from isthmus.trust.spiffe_bundle import render_json_bundle

Request = Callable[..., tuple[int, dict[str, Any]]]
SYSTEM = "/api/v1/namespaces/istio-system"
DAY = timedelta(days=1)


@pytest.fixture
def contexts(api_servers: dict[str, Any]) -> list[ContextEntry]:
    return [
        ContextEntry(name=name, server=server.url, ca_pem=server.ca_pem, token=server.admin_token)
        for name, server in api_servers.items()
    ]


@pytest.fixture
def kubeconfig(contexts: list[ContextEntry], tmp_path: Path) -> str:
    path = tmp_path / "kubeconfig"
    path.write_text(render(contexts))
    return str(path)


def run(kubeconfig: str, *arguments: str, **named: Any) -> Result:
    return CliRunner().invoke(isthmus, ["trust", *arguments, "--kubeconfig", kubeconfig], **named)


def put_secret(request_to: Request, name: str, entries: dict[str, str], kind: str = "Opaque") -> None:
    data = {entry: base64.b64encode(text.encode()).decode() for entry, text in entries.items()}
    body = {"metadata": {"name": name, "namespace": "istio-system"}, "type": kind, "data": data}
    code, answer = request_to("east", "POST", f"{SYSTEM}/secrets", body)
    assert code == 201, answer


def put_authority(request_to: Request, lifetime: timedelta) -> None:
    """As an operator plugs one in: a root of ten years, and an intermediate of less."""
    now = datetime.now(UTC)
    root = x509.new_root(TrustDomain.parse("cluster.local"), now, 3650 * DAY)
    issuer = x509.new_intermediate(root, "east", now, lifetime)
    pem = x509.certificate_pem
    files = {"ca-cert.pem": pem(issuer.certificate), "ca-key.pem": x509.key_pem(issuer.key)}
    put_secret(request_to, "cacerts", files | {"root-cert.pem": pem(root.certificate)})


def horizons(result: Result) -> list[tuple[str, str, str]]:
    document = json.loads(result.stdout)
    return [(row["cluster"], row["kind"], row["where"]) for row in document["horizons"]]


def test_authorities_and_remote_credentials_are_told_with_the_nearest_end_first(
    kubeconfig: str, request_to: Request
) -> None:
    put_authority(request_to, 30 * DAY)
    linked = CliRunner().invoke(isthmus, ["link", "east", "west", "--kubeconfig", kubeconfig])
    assert linked.exit_code == 0, linked.output

    result = run(kubeconfig, "expiry", "-o", "json")

    assert result.exit_code == 0, result.output
    found = horizons(result)
    assert found[0] == ("east", "intermediate", "Secret istio-system/cacerts ca-cert.pem")
    assert ("east", "root", "Secret istio-system/cacerts root-cert.pem") in found
    tokens = {(cluster, where) for cluster, kind, where in found if kind == "token"}
    assert tokens == {
        ("east", "Secret istio-system/istio-remote-secret-west"),
        ("west", "Secret istio-system/istio-remote-secret-east"),
    }


def test_no_key_is_printed(kubeconfig: str, request_to: Request) -> None:
    put_authority(request_to, 30 * DAY)

    assert "PRIVATE" not in run(kubeconfig, "expiry", "-o", "json").output
    assert "PRIVATE" not in run(kubeconfig, "expiry").output


@pytest.mark.parametrize(("within", "code"), [("29d", 0), ("31d", 79)])
def test_what_ends_within_the_time_is_a_finding(kubeconfig: str, request_to: Request, within: str, code: int) -> None:
    put_authority(request_to, 30 * DAY)

    result = run(kubeconfig, "expiry", "--within", within, "--context", "east")

    assert result.exit_code == code, result.output


def test_a_certificate_that_cannot_be_read_is_a_finding_and_hides_no_other(
    kubeconfig: str, request_to: Request
) -> None:
    put_authority(request_to, 30 * DAY)
    put_secret(request_to, "web", {"tls.crt": "no certificate", "tls.key": "no key"}, "kubernetes.io/tls")

    result = run(kubeconfig, "expiry", "--within", "1d", "-o", "json")

    assert result.exit_code == 79
    assert horizons(result)[0] == ("east", "unreadable", "Secret istio-system/web tls.crt")
    assert ("east", "intermediate", "Secret istio-system/cacerts ca-cert.pem") in horizons(result)


def test_a_cluster_out_of_reach_is_named_and_hides_no_other(
    contexts: list[ContextEntry], request_to: Request, tmp_path: Path
) -> None:
    put_authority(request_to, 30 * DAY)
    gone = ContextEntry(name="gone", server="https://127.0.0.1:9", ca_pem=contexts[0].ca_pem, token="none")
    path = tmp_path / "kubeconfig"
    path.write_text(render([*contexts, gone]))

    result = run(str(path), "expiry", "-o", "json")

    assert result.exit_code == 1
    assert [each["cluster"] for each in json.loads(result.stdout)["unanswered"]] == ["gone"]
    assert ("east", "intermediate", "Secret istio-system/cacerts ca-cert.pem") in horizons(result)


def root_of(domain: str) -> str:
    root = x509.new_root(TrustDomain.parse(domain), datetime.now(UTC), 365 * DAY)
    return x509.certificate_pem(root.certificate)


def bundle_in(request_to: Request, cluster: str, domain: str) -> str | None:
    code, found = request_to(cluster, "GET", f"{SYSTEM}/configmaps/istio")
    assert code in (200, 404), found
    return (found.get("data") or {}).get(f"trust-bundle.{domain}")


@pytest.fixture
def partner(kubeconfig: str, request_to: Request, tmp_path: Path) -> Iterator[str]:
    """A mesh's bundle in a file; what is imported of it goes with the test."""
    file = tmp_path / "bundle.json"
    file.write_text(render_json_bundle(x509.parse_certificates(root_of("partner.example"))))
    yield str(file)
    for cluster in ("east", "west"):
        for name in ("istio", "istio-ca-root-cert"):
            request_to(cluster, "DELETE", f"{SYSTEM}/configmaps/{name}")


def test_an_imported_bundle_is_written_to_every_cluster_and_forgotten_again(
    kubeconfig: str, request_to: Request, partner: str
) -> None:
    imported = run(kubeconfig, "import", partner, "--trust-domain", "partner.example")

    assert imported.exit_code == 0, imported.output
    assert "east: 1 authorities more, 0 fewer, 1 in all" in imported.stderr
    for cluster in ("east", "west"):
        pem = bundle_in(request_to, cluster, "partner.example") or ""
        assert x509.called(x509.parse_certificates(pem)[0]) == "CN=Root CA,O=partner.example"

    assert "unchanged" in run(kubeconfig, "import", partner, "--trust-domain", "partner.example").stderr
    forgotten = run(kubeconfig, "forget", "--trust-domain", "partner.example")
    assert "west: 0 authorities more, 1 fewer, 0 in all" in forgotten.stderr
    assert bundle_in(request_to, "west", "partner.example") is None


def test_an_import_keeps_what_else_the_config_map_says(kubeconfig: str, request_to: Request, partner: str) -> None:
    body = {"metadata": {"name": "istio", "namespace": "istio-system"}, "data": {"mesh": "# ours\n"}}
    assert request_to("east", "POST", f"{SYSTEM}/configmaps", body)[0] == 201

    run(kubeconfig, "import", partner, "--trust-domain", "partner.example")

    assert request_to("east", "GET", f"{SYSTEM}/configmaps/istio")[1]["data"]["mesh"] == "# ours\n"


def test_nobody_imports_authorities_for_the_meshs_own_trust_domain(
    kubeconfig: str, request_to: Request, partner: str
) -> None:
    result = run(kubeconfig, "import", partner, "--trust-domain", "cluster.local")

    assert result.exit_code == 1, result.output
    assert "the trust domain of east itself" in result.output
    assert bundle_in(request_to, "east", "cluster.local") is None


def test_what_is_no_bundle_is_refused_and_nothing_is_written(
    kubeconfig: str, request_to: Request, partner: str
) -> None:
    Path(partner).write_text('{"keys": []}')

    result = run(kubeconfig, "import", partner, "--trust-domain", "partner.example")

    assert result.exit_code == 1, result.output
    assert bundle_in(request_to, "east", "partner.example") is None


@pytest.mark.parametrize("form", ["json", "pem"])
def test_what_one_mesh_exports_another_imports(
    kubeconfig: str, request_to: Request, partner: str, tmp_path: Path, form: str
) -> None:
    root = root_of("cluster.local")
    body = {"metadata": {"name": "istio-ca-root-cert", "namespace": "istio-system"}, "data": {"root-cert.pem": root}}
    assert request_to("east", "POST", f"{SYSTEM}/configmaps", body)[0] == 201
    exported = run(kubeconfig, "export", "--trust-domain", "cluster.local", "-o", form)
    assert exported.exit_code == 0, exported.output
    file = tmp_path / "exported"
    file.write_text(exported.stdout)

    result = run(kubeconfig, "import", str(file), "--trust-domain", "other.example", "--context", "west")

    assert result.exit_code == 0, result.output
    assert x509.to_der(bundle_in(request_to, "west", "other.example") or "") == x509.to_der(root)


def test_a_trust_domain_that_nobody_knows_is_not_exported(kubeconfig: str, partner: str) -> None:
    result = run(kubeconfig, "export", "--trust-domain", "unknown.example")

    assert result.exit_code == 1
    assert "no authority of trust domain unknown.example" in result.output


ENDPOINT = "https://203.0.113.9:15019/"
ISTIOD = "spiffe://partner.example/ns/istio-system/sa/istiod"


def test_an_endpoint_is_followed_in_every_cluster_shown_and_forgotten(
    kubeconfig: str, request_to: Request, partner: str
) -> None:
    arguments = ("--trust-domain", "partner.example", "--url", ENDPOINT, "--identity", ISTIOD)
    first = run(kubeconfig, "follow", *arguments)
    assert "east: import the first bundle: `isthmus trust import FILE --trust-domain partner.example`" in first.stderr
    run(kubeconfig, "import", partner, "--trust-domain", "partner.example")
    assert "west: unchanged" in run(kubeconfig, "follow", *arguments).stderr
    record = {
        "trustDomain": "partner.example",
        "url": ENDPOINT,
        "state": "stale",
        "nextAt": "2099-01-01T00:00:00Z",
        "fetchedAt": "2026-01-01T00:00:00Z",
        "authorities": ["pem", "pem"],
        "sequence": 7,
        "refusal": "timeout",
        "problem": "no answer within 10 seconds",
    }
    data = {"bundle.partner.example": json.dumps(record), "asked.partner.example": "2026-01-01T00:00:00+00:00"}
    body = {"metadata": {"name": "isthmus-bundles", "namespace": "istio-system"}, "data": data}
    assert request_to("east", "POST", f"{SYSTEM}/configmaps", body)[0] == 201

    shown = run(kubeconfig, "bundles", "-o", "json")
    table = run(kubeconfig, "bundles")

    assert (shown.exit_code, table.exit_code) == (79, 79)
    rows = {(row["cluster"], row["trustDomain"]): row for row in json.loads(shown.stdout)["bundles"]}
    east, west = rows["east", "partner.example"], rows["west", "partner.example"]
    assert (east["state"], east["sequence"], east["authorities"], east["refusal"]) == ("stale", 7, 2, "timeout")
    assert (west["state"], west["authorities"], west["source"]) == ("pending", 1, ENDPOINT)
    assert rows["east", "cluster.local"]["source"] == "own"
    assert "stale (timeout)" in table.stdout
    assert "east: partner.example: no answer within 10 seconds" in table.stderr
    request_to("east", "DELETE", f"{SYSTEM}/configmaps/isthmus-bundles")
    run(kubeconfig, "forget", "--trust-domain", "partner.example")
    again = json.loads(run(kubeconfig, "bundles", "-o", "json").stdout)["bundles"]
    assert {row["trustDomain"] for row in again} == {"cluster.local"}


def test_an_endpoint_that_is_none_is_refused_before_anything_is_written(kubeconfig: str, request_to: Request) -> None:
    for url, identity, said in (
        ("http://a.example/", "", "scheme has to be https"),
        (ENDPOINT, "partner.example", "not a SPIFFE ID"),
    ):
        result = run(kubeconfig, "follow", "--trust-domain", "partner.example", "--url", url, "--identity", identity)
        assert result.exit_code == 1
        assert said in result.output
    own = run(kubeconfig, "follow", "--trust-domain", "cluster.local", "--url", ENDPOINT)
    assert "the trust domain of east itself" in own.output
    assert request_to("east", "GET", f"{SYSTEM}/configmaps/istio")[0] == 404


def test_an_authority_is_told_once_with_how_many_proxies_have_it() -> None:
    """A proxy has it in several bundles; what stands in for nobody's bundle is left out."""

    def secret(*domains: str) -> dict[str, Any]:
        bundles = json.dumps(
            {"trust_domains": {d: {"keys": [{"x5c": [body(root)]}]} for d, root in roots.items() if d in domains}}
        )
        config = {"custom_validator_config": {"typed_config": {"trust_bundles": {"inline_string": bundles}}}}
        return {"secret": {"validation_context": config}}

    def body(pem: str) -> str:
        return "".join(pem.splitlines()[1:-1])

    class Envoys:
        def envoy(self, cluster: str, namespace: str, pod: str, page: str) -> bytes:
            return json.dumps({"configs": [secret("cluster.local"), secret("cluster.local", str(NOBODY))]}).encode()

    roots = {"cluster.local": root_of("cluster.local"), str(NOBODY): root_of("other.example")}
    pods = [{"namespace": "shop", "name": name} for name in ("web-1", "web-2")]

    found = in_proxies(cast(MeshClient, Envoys()), [{"id": "east", "pods": pods}])

    assert [horizon.where for horizon in found] == ["bundle of cluster.local in 2 proxies"]
