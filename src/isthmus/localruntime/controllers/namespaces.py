"""Namespaces: what each has from its beginning. Their end is the API server's business."""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.kubernetes.resources import CONFIG_MAPS, NAMESPACES, SERVICE_ACCOUNTS
from isthmus.localruntime.controllers.actions import Action, Create, State, is_going

ROOT_CA = "kube-root-ca.crt"


def namespaces(state: State, api_ca_pem: str) -> Iterator[Action]:
    """A default ServiceAccount, and the certificate authority of the API server."""
    for (_, name), namespace in state[NAMESPACES].items():
        if is_going(namespace):
            continue
        metadata = {"namespace": name}
        if (name, "default") not in state[SERVICE_ACCOUNTS]:
            account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata | {"name": "default"}}
            yield Create(SERVICE_ACCOUNTS, account)
        if (name, ROOT_CA) not in state[CONFIG_MAPS]:
            data = {"ca.crt": api_ca_pem}
            yield Create(
                CONFIG_MAPS,
                {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata | {"name": ROOT_CA}, "data": data},
            )
