"""What is asked before requests, or bytes, reach a workload or pass a gateway, in this order (Istio's): external authorization, tokens,
policies."""

from __future__ import annotations

from typing import Any

from isthmus.envoy import authorization, external_authorization, tokens
from isthmus.model.security import Authorization


def of_requests(asked: Authorization) -> list[Any]:
    """HTTP filters."""
    return [
        *external_authorization.http_filters(asked),
        *tokens.filters(asked.tokens),
        *authorization.http_filters(asked),
    ]


def of_connections(asked: Authorization) -> list[Any]:
    """Network filters."""
    return [*external_authorization.network_filters(asked), *authorization.network_filters(asked)]
