"""How tokens are checked, and what policies may ask of them afterwards."""

from __future__ import annotations

import pytest

from isthmus.envoy import tokens
from isthmus.model.security import TokenRule


@pytest.mark.parametrize(
    ("listed", "claims"),
    [((), ["scope", "permission"]), (("roles", "scope"), ["scope", "permission", "roles"])],
)
def test_scopes_and_claims_that_a_rule_names_are_lists_for_policies(listed, claims):
    """So that a policy for the scope `read` means a token whose scope is `read write`, too."""
    rule = TokenRule(issuer="https://i", jwks='{"keys": []}', listed_claims=listed)

    [provider] = tokens.configuration([rule]).providers.values()

    assert list(provider.normalize_payload_in_metadata.space_delimited_claims) == claims


@pytest.mark.parametrize("chooses_routes", [False, True])
def test_a_route_is_chosen_again_only_where_tokens_choose_routes(chooses_routes):
    rule = TokenRule(issuer="https://i", jwks='{"keys": []}')

    [provider] = tokens.configuration([rule], chooses_routes=chooses_routes).providers.values()

    assert provider.clear_route_cache is chooses_routes
