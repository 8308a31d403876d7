"""Patches of listeners: of the whole, of chains, and of filters of every kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2

from isthmus.envoy import guards
from isthmus.envoy.common import packed
from isthmus.envoy.patches import routes
from isthmus.envoy.patches.lists import change, named
from isthmus.envoy.patches.merging import merge
from isthmus.model.envoy_filters import ApplyTo, ConfigPatch, FilterClass, ListenerChoice, Operation

_MANAGER = "envoy.filters.network.http_connection_manager"
_VIRTUAL = ("virtualInbound", "virtualOutbound")
_INSERTIONS = (Operation.ADD, Operation.INSERT_BEFORE, Operation.INSERT_AFTER)
_BEHIND = {
    FilterClass.AUTHN: ("envoy.filters.http.jwt_authn",),
    FilterClass.AUTHZ: (guards.ALLOW, "envoy.filters.http.rbac", "envoy.filters.http.jwt_authn"),
    FilterClass.STATS: (),
}
_OF_ROUTES = (ApplyTo.ROUTE_CONFIGURATION, ApplyTo.VIRTUAL_HOST, ApplyTo.HTTP_ROUTE)


def _is_meant(listener: Any, said: ConfigPatch) -> bool:
    """Ports of the listeners that capture are those of their chains, so what is in these is looked at there."""
    choice = said.listener
    has_port = choice.port in (0, listener.address.socket_address.port_value)
    by_chain = listener.name in _VIRTUAL and said.apply_to is not ApplyTo.LISTENER
    return (has_port or by_chain) and choice.name in ("", listener.name)


def patch(listener: Any, said: ConfigPatch, value: Any) -> bool:
    """Changes the listener; False where it is to be removed."""
    choice = said.listener
    if said.apply_to in _OF_ROUTES:
        _patch_inline_routes(listener, said, value)
        return True
    if not _is_meant(listener, said):
        return True
    match said.apply_to:
        case ApplyTo.LISTENER if said.operation is Operation.REMOVE:
            return False
        case ApplyTo.LISTENER if said.operation is not Operation.ADD:
            merge(listener, value, replace_lists=said.operation is Operation.MERGE_AND_REPLACE_LIST)
        case ApplyTo.LISTENER_FILTER:
            meant = named(choice.listener_filter) if choice.listener_filter else None
            change(listener.listener_filters, said.operation, value, meant)
        case ApplyTo.FILTER_CHAIN:
            _patch_chains(listener, said, value)
        case ApplyTo.NETWORK_FILTER:
            meant = named(choice.filter) if choice.filter else None
            for chain in _chains(listener, choice):
                change(chain.filters, said.operation, value, meant)
        case ApplyTo.HTTP_FILTER:
            for chain in _chains(listener, choice):
                for manager in _managers(chain):
                    _patch_http_filters(manager.http_filters, said, value)
    return True


def _patch_chains(listener: Any, said: ConfigPatch, value: Any) -> None:
    if said.operation is Operation.ADD:
        listener.filter_chains.append(value)
        return
    choice = said.listener

    def meant(chain: Any) -> bool:
        has_filter = not choice.filter or any(map(named(choice.filter), chain.filters))
        return has_filter and _chain_is_meant(listener, chain, choice)

    if said.operation is Operation.REMOVE and listener.HasField("default_filter_chain"):
        if meant(listener.default_filter_chain):
            listener.ClearField("default_filter_chain")
    elif listener.HasField("default_filter_chain") and meant(listener.default_filter_chain):
        replace = said.operation is Operation.MERGE_AND_REPLACE_LIST
        merge(listener.default_filter_chain, value, replace_lists=replace)
    change(listener.filter_chains, said.operation, value, meant)


def _chains(listener: Any, choice: ListenerChoice) -> Iterator[Any]:
    every: Sequence[Any] = listener.filter_chains
    if listener.HasField("default_filter_chain"):
        every = [*every, listener.default_filter_chain]
    return (chain for chain in every if _chain_is_meant(listener, chain, choice))


def _chain_is_meant(listener: Any, chain: Any, choice: ListenerChoice) -> bool:
    match = chain.filter_chain_match
    port = match.destination_port.value
    if listener.name in _VIRTUAL and choice.port not in (0, port, listener.address.socket_address.port_value):
        return False
    return (
        choice.chain in ("", chain.name)
        and (not choice.sni or choice.sni in match.server_names)
        and choice.transport_protocol in ("", match.transport_protocol)
        and all(protocol in match.application_protocols for protocol in choice.application_protocols)
        and choice.destination_port in (0, port)
    )


def _patch_http_filters(filters: Any, said: ConfigPatch, value: Any) -> None:
    """Without a place named, a filter's class says where it goes: behind what checks tokens, behind policies, or last."""
    sub_filter = said.listener.sub_filter
    operation = said.operation
    if not sub_filter and operation in _INSERTIONS and said.filter_class is not FilterClass.UNSPECIFIED:
        present = [each.name for each in filters]
        anchors = [name for name in _BEHIND[said.filter_class] if name in present]
        if anchors:
            last = len(present) - 1 - present[::-1].index(anchors[0])
            kept = list(filters)
            del filters[:]
            filters.extend([*kept[: last + 1], value, *kept[last + 1 :]])
            return
        operation = Operation.ADD if said.filter_class is FilterClass.STATS else Operation.INSERT_FIRST
    change(filters, operation, value, named(sub_filter) if sub_filter else None)


def _managers(chain: Any) -> Iterator[Any]:
    """The chain's HTTP connection managers, each packed again after it was changed."""
    for each in chain.filters:
        if each.name == _MANAGER:
            manager = http_connection_manager_pb2.HttpConnectionManager.FromString(each.typed_config.value)
            yield manager
            each.typed_config.CopyFrom(packed(manager))


def _patch_inline_routes(listener: Any, said: ConfigPatch, value: Any) -> None:
    """Of the inbound listener, whose routes are not fetched."""
    for chain in _chains(listener, ListenerChoice()):
        for manager in _managers(chain):
            if manager.HasField("route_config"):
                routes.patch(manager.route_config, said, value)
