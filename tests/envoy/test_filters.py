"""How requests are served, whoever sends them: what callers write about identities is not believed, and slow ones are not waited for."""

from __future__ import annotations

from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2

from isthmus.envoy import filters
from isthmus.model.proxy_config import ClientCertificates, GatewayTopology
from isthmus.model.security import PathNormalization

Hcm = http_connection_manager_pb2.HttpConnectionManager


def manager(found):
    return Hcm.FromString(found.typed_config.value)


def gateway(**topology):
    return filters.http_at_gateway("p", "http.80", GatewayTopology(**topology), guards=[], paths=PathNormalization.BASE)


def test_a_gateway_tells_of_the_callers_own_certificate_and_address_alone():
    at_gateway = manager(gateway())

    assert at_gateway.forward_client_cert_details == Hcm.SANITIZE_SET
    assert at_gateway.use_remote_address.value
    assert at_gateway.xff_num_trusted_hops == 0


def test_a_gateway_behind_proxies_that_are_trusted_believes_what_they_say():
    behind = manager(gateway(trusted_proxies=2, client_certificates=ClientCertificates.FORWARD_ONLY))

    assert behind.xff_num_trusted_hops == 2
    assert behind.forward_client_cert_details == Hcm.FORWARD_ONLY
    assert not behind.HasField("set_current_client_cert_details")


def test_a_gateway_waits_for_the_head_of_a_request_for_so_long():
    at_gateway = manager(gateway())

    assert at_gateway.request_headers_timeout.seconds == 30


def test_a_sidecar_waits_for_the_head_of_a_request_to_its_workload_for_so_long():
    served = manager(filters.http_inbound("p", RouteConfiguration(), authenticated=True))

    assert served.request_headers_timeout.seconds == 30


def test_a_sidecar_passes_no_identity_on_that_its_workload_writes():
    assert manager(filters.http_by_rds("p", "80")).forward_client_cert_details == Hcm.SANITIZE
