"""Whom Prometheus asks for a Pod's metrics: the agent, which asks Envoy and the workload.

As in Istio, a Pod's annotations `prometheus.io/…` are led to the agent, and the agent is told what they said.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from isthmus.injection.probes import AGENT_PORT
from isthmus.injection.settings import BadRequest
from isthmus.model.values import dataclass

Object = dict[str, Any]

TOLD = "ISTIO_PROMETHEUS_ANNOTATIONS"
_PREFIX = "prometheus.io/"
_MERGE = "prometheus.istio.io/merge-metrics"
_PATH = "/stats/prometheus"
_ENVOYS_PORT = 15090


@dataclass(frozen=True, slots=True)
class Asked:
    """Annotations that take the place of the Pod's, variables of the agent, and what the Pod's owner may want to know."""

    annotations: Mapping[str, str] = field(default_factory=dict)
    variables: Sequence[Object] = ()
    warnings: tuple[str, ...] = ()


def led_to_the_agent(annotations: Mapping[str, str], *, merges: bool) -> Asked:
    """`merges`: what MeshConfig says of Pods that do not say it. Who does not want to be asked stays as he is. Raises BadRequest."""
    said = {name: annotations[_PREFIX + name] for name in ("scrape", "path", "port") if _PREFIX + name in annotations}
    if said.get("scrape", "true").lower() != "true" or said.get("port") == str(AGENT_PORT):
        return Asked()
    if not _merges(annotations, otherwise=merges):
        return Asked() if said else Asked(_asking(_ENVOYS_PORT))
    if not said:
        return Asked(_asking(AGENT_PORT))
    port = said.get("port", "80")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        return Asked(warnings=(f"annotation {_PREFIX}port: {port!r} is not a port: metrics are not merged",))
    told = json.dumps({"scrape": "true", **said}, sort_keys=True, separators=(",", ":"))
    return Asked(_asking(AGENT_PORT), [{"name": TOLD, "value": told}])


def _merges(annotations: Mapping[str, str], *, otherwise: bool) -> bool:
    value = annotations.get(_MERGE, str(otherwise)).lower()
    if value not in ("true", "false"):
        raise BadRequest(f"annotation {_MERGE}: {value!r} is neither true nor false")
    return value == "true"


def _asking(port: int) -> dict[str, str]:
    return {_PREFIX + "scrape": "true", _PREFIX + "port": str(port), _PREFIX + "path": _PATH}
