"""Scheduling: each new Pod gets a Node, and its sidecar on the way."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from isthmus.kubernetes.resources import NAMESPACES, NODES, PODS, SERVICES
from isthmus.localruntime.controllers.actions import Action, Object, Replace, State, is_going
from isthmus.localruntime.controllers.injection import TAG, InjectionSettings, inject


def scheduling(state: State, settings: InjectionSettings) -> Iterator[Action]:
    """Onto the Node with the fewest Pods among those that the Pod's nodeSelector allows."""
    tags = {(service["metadata"].get("labels") or {}).get(TAG, "") for service in state[SERVICES].values()}
    settings = replace(settings, revisions=(*settings.revisions, *sorted(tags - {"", *settings.revisions})))
    load = Counter(pod["spec"].get("nodeName", "") for pod in state[PODS].values())
    for pod in sorted(state[PODS].values(), key=lambda pod: str(pod["metadata"]["name"])):
        if pod["spec"].get("nodeName") or is_going(pod):
            continue
        wanted = (pod["spec"].get("nodeSelector") or {}).items()
        fitting = [
            name
            for (_, name), node in state[NODES].items()
            if wanted <= (node["metadata"].get("labels") or {}).items()
            and not node.get("spec", {}).get("unschedulable")
        ]
        namespace = state[NAMESPACES].get(("", pod["metadata"]["namespace"]))
        if not fitting or namespace is None:
            continue
        node = min(fitting, key=lambda name: (load[name], name))
        load[node] += 1
        yield Replace(PODS, _placed(pod, node, namespace, settings))


def _placed(pod: Object, node: str, namespace: Object, settings: InjectionSettings) -> Object:
    placed = inject(copy.deepcopy(pod), namespace["metadata"].get("labels") or {}, settings)
    placed["spec"]["nodeName"] = node
    return placed
