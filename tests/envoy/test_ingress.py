"""An ingress gateway's chains: what is asked before anything else."""

from __future__ import annotations

import pytest
from envoy.config.listener.v3 import listener_pb2

from isthmus.envoy import guards
from isthmus.envoy.ingress import listeners
from isthmus.model.gateways import GatewayChain, GatewayPort, ServerTls, TlsMode
from isthmus.model.proxy_config import GatewayTopology
from isthmus.model.security import Authorization


@pytest.mark.parametrize("table", ["http.8443", ""])
@pytest.mark.parametrize(("mode", "looks"), [(TlsMode.ISTIO_MUTUAL, True), (TlsMode.SIMPLE, False)])
def test_a_gateway_that_ends_the_mesh_s_mutual_tls_looks_first_at_how_many_identities_a_caller_shows(
    mode, table, looks
):
    chain = GatewayChain(tls=ServerTls(mode=mode, certificate="/c", private_key="/k"), table=table)

    [resource] = listeners(
        [GatewayPort(number=8443, chains=(chain,))], Authorization(), GatewayTopology(), (4,), one_bundle=False
    )

    [found] = listener_pb2.Listener.FromString(resource.body).filter_chains
    assert (found.filters[0].name == guards.ONE_IDENTITY) is looks
