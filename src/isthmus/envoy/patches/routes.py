"""Patches of route tables, virtual hosts and routes."""

from __future__ import annotations

import re
from typing import Any

from isthmus.envoy.patches.lists import change
from isthmus.envoy.patches.merging import merge
from isthmus.envoy.routes import REPEATED_ON
from isthmus.model.envoy_filters import ApplyTo, ConfigPatch, Operation, RouteChoice

_ADDING = (
    Operation.ADD,
    Operation.INSERT_FIRST,
    Operation.INSERT_BEFORE,
    Operation.INSERT_AFTER,
    Operation.REPLACE,
)
_ACTIONS = {"ROUTE": "route", "REDIRECT": "redirect", "DIRECT_RESPONSE": "direct_response"}


def patch(table: Any, said: ConfigPatch, value: Any) -> None:
    """Changes the table where the patch means it."""
    choice = said.routes
    if not _table_is_meant(table.name, choice):
        return
    match said.apply_to:
        case ApplyTo.ROUTE_CONFIGURATION:
            merge(table, value, replace_lists=said.operation is Operation.MERGE_AND_REPLACE_LIST)
        case ApplyTo.VIRTUAL_HOST:
            names_some = bool(choice.host or choice.domain)
            meant = None if said.operation is Operation.ADD else lambda host: _host_is_meant(host, choice)
            if names_some or said.operation is not Operation.REMOVE:
                change(table.virtual_hosts, said.operation, value, meant)
        case ApplyTo.HTTP_ROUTE:
            anchored = bool(choice.route or choice.action)
            if said.operation in _ADDING:
                value = _repeating_what_it_says(value)
            for host in table.virtual_hosts:
                if _host_is_meant(host, choice):
                    _change_routes(host, said, value, anchored=anchored)


def _change_routes(host: Any, said: ConfigPatch, value: Any, *, anchored: bool) -> None:
    """A merge or removal that names no route means every one of the host."""
    whole = said.operation in (
        Operation.MERGE,
        Operation.MERGE_AND_REPLACE_LIST,
        Operation.REMOVE,
        Operation.REPLACE,
    )
    meant = (lambda route: _route_is_meant(route, said.routes)) if anchored or whole else None
    if whole and value is not None and value.route.HasField("retry_policy"):
        for route in host.routes:
            if meant is None or meant(route):
                _give_own_retries(route, host)
    change(host.routes, said.operation, value, meant)


def _give_own_retries(route: Any, host: Any) -> None:
    """A route's policy replaces its host's as a whole. Who merges into that of a route, as is Istio's way, means to change some of it."""
    if not route.HasField("route") or route.route.HasField("retry_policy") or not host.HasField("retry_policy"):
        return
    policy = route.route.retry_policy
    policy.CopyFrom(host.retry_policy)
    kept = []
    for each in route.request_headers_to_add:
        if each.header.key == REPEATED_ON:
            policy.retry_on += f",{each.header.value}"
        else:
            kept.append(each)
    del route.request_headers_to_add[:]
    route.request_headers_to_add.extend(kept)


def _repeating_what_it_says(route: Any) -> Any:
    """A route that is added repeats nothing unless it says so, whatever its host has."""
    if not route.HasField("route") or route.route.HasField("retry_policy"):
        return route
    found = type(route).FromString(route.SerializeToString())
    found.route.retry_policy.SetInParent()
    return found


def _table_is_meant(name: str, choice: RouteChoice) -> bool:
    """Tables are named `80`, `host:80`, `inbound|80||`, and at gateways `http.80` or `https.443.PORT.GATEWAY.NAMESPACE`."""
    if choice.table not in ("", name):
        return False
    if choice.port and str(choice.port) not in re.split(r"[.:|]", name):
        return False
    parts = name.split(".")
    if parts[0] != "https" or len(parts) < 5:
        return not (choice.port_name or choice.gateway) or parts[0] == "http"
    gateway = choice.gateway.partition("/")[::2] if choice.gateway else (parts[-1], parts[-2])
    return choice.port_name in ("", parts[2]) and gateway == (parts[-1], parts[-2])


def _host_is_meant(host: Any, choice: RouteChoice) -> bool:
    return choice.host in ("", host.name) and (not choice.domain or choice.domain in host.domains)


def _route_is_meant(route: Any, choice: RouteChoice) -> bool:
    if choice.route not in ("", route.name):
        return False
    return not choice.action or route.WhichOneof("action") == _ACTIONS.get(choice.action)
