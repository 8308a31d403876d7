"""Which changes of EnvoyFilters hold for the proxies of a scope, in the order in which they are made."""

from __future__ import annotations

import re

from isthmus.model.envoy_filters import VERSION, ApplyTo, ConfigPatch, EnvoyFilter
from isthmus.model.selectors import holds_for
from isthmus.model.snapshot import Snapshot
from isthmus.model.views import ProxyKind, Scope


def patches_for(scope: Scope, snapshot: Snapshot) -> tuple[ConfigPatch, ...]:
    """By priority; of one priority the mesh's (the root namespace's) come first, then the older ones. An application that speaks xDS
    itself is no Envoy, and has none.
    """
    if scope.kind is ProxyKind.PROXYLESS:
        return ()
    return tuple(
        patch
        for each in snapshot.envoy_filters
        if _chooses(each, scope, snapshot)
        for patch in each.patches
        if _asks_for(patch, scope)
    )


def cluster_patches_for(scope: Scope, snapshot: Snapshot) -> tuple[ConfigPatch, ...]:
    """Those of Envoy's clusters alone, for what is computed of each upstream."""
    if not snapshot.envoy_filters:
        return ()
    return tuple(patch for patch in patches_for(scope, snapshot) if patch.apply_to is ApplyTo.CLUSTER)


def _chooses(each: EnvoyFilter, scope: Scope, snapshot: Snapshot) -> bool:
    if each.namespace not in (scope.namespace, snapshot.settings.root_namespace):
        return False
    return holds_for(each, scope.namespace, scope.labels)


def _asks_for(patch: ConfigPatch, scope: Scope) -> bool:
    """What a patch asks of the proxy itself; who says nothing about it is not meant."""
    claims = dict(scope.claims)
    if patch.proxy_version and not _matches(patch.proxy_version, claims.get(VERSION, "")):
        return False
    return all(claims.get(key) == value for key, value in patch.claims)


def _matches(expression: str, version: str) -> bool:
    try:
        return bool(version) and re.search(expression, version) is not None
    except re.error:
        return False
