"""How requests are served, whoever sends them: what callers write about identities is not believed, and slow ones are not waited for."""

from __future__ import annotations

from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2

from isthmus.envoy import filters
from isthmus.model.security import PathNormalization

Hcm = http_connection_manager_pb2.HttpConnectionManager


def manager(found):
    return Hcm.FromString(found.typed_config.value)


def test_a_gateway_tells_of_the_callers_own_certificate_and_address_alone():
    at_gateway = manager(filters.http_at_gateway("p", "http.80", guards=[], paths=PathNormalization.BASE))

    assert at_gateway.forward_client_cert_details == Hcm.SANITIZE_SET
    assert at_gateway.use_remote_address.value


def test_a_gateway_waits_for_the_head_of_a_request_for_so_long():
    at_gateway = manager(filters.http_at_gateway("p", "http.80", guards=[], paths=PathNormalization.BASE))

    assert at_gateway.request_headers_timeout.seconds == 30


def test_a_sidecar_passes_no_identity_on_that_its_workload_writes():
    assert manager(filters.http_by_rds("p", "80")).forward_client_cert_details == Hcm.SANITIZE
