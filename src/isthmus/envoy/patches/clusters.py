"""Patches of Envoy's clusters."""

from __future__ import annotations

from typing import Any

from isthmus.envoy.patches.merging import merge
from isthmus.model.envoy_filters import ClusterChoice, ConfigPatch, Operation


def is_meant(name: str, choice: ClusterChoice) -> bool:
    """Names are `outbound|PORT|SUBSET|HOST`, `inbound|PORT||`, the SNI form of these, or one of their own."""
    if choice.name:
        return choice.name == name
    if not (choice.port or choice.service or choice.subset):
        return True
    parts = name.split("|") if "|" in name else name.split("_.")
    if len(parts) != 4:
        return False
    _, port, subset, host = parts
    return (
        choice.service in ("", host)
        and (not choice.subset or choice.subset == ("" if subset == "_" else subset))
        and (not choice.port or str(choice.port) == port)
    )


def patch(cluster: Any, said: ConfigPatch, value: Any) -> bool:
    """Changes the cluster; False where it is to be removed."""
    if not is_meant(cluster.name, said.cluster):
        return True
    if said.operation is Operation.REMOVE:
        return False
    if said.operation is not Operation.ADD:
        _merge_cluster(cluster, value, replace_lists=said.operation is Operation.MERGE_AND_REPLACE_LIST)
    return True


def _merge_cluster(cluster: Any, value: Any, *, replace_lists: bool) -> None:
    """A transport socket is merged into those of the same name that the cluster chooses among, if it does (as Istio). A cluster that is given
    another name keeps its endpoints.
    """
    if value.name and cluster.type == type(cluster).EDS and not cluster.eds_cluster_config.service_name:
        cluster.eds_cluster_config.service_name = cluster.name
    if value.HasField("transport_socket") and cluster.transport_socket_matches:
        rest = type(value)()
        rest.CopyFrom(value)
        rest.ClearField("transport_socket")
        for match in cluster.transport_socket_matches:
            if match.transport_socket.name == value.transport_socket.name:
                merge(match.transport_socket, value.transport_socket)
        value = rest
    merge(cluster, value, replace_lists=replace_lists)
