"""The kubelet's probes, led through the agent.

The kubelet has no identity, so a workload that takes mutual TLS only would never become ready; and a TCP probe of a captured port always
succeeds, because the proxy accepts. The agent asks the workload from inside the Pod instead, on behalf of the kubelet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from isthmus.injection.settings import BadRequest

Object = dict[str, Any]

AGENT_PORT = 15020
PROBERS = "ISTIO_KUBE_APP_PROBERS"
_PROBES = {"readinessProbe": "readyz", "livenessProbe": "livez", "startupProbe": "startupz"}
_ACTIONS = ("httpGet", "tcpSocket", "grpc")


def rewritten(containers: list[Object]) -> dict[str, Object]:
    """Changes the containers' probes in place; what the agent is to ask, by the path under which the kubelet asks for it."""
    asked: dict[str, Object] = {}
    for container in containers:
        for field, ending in _PROBES.items():
            probe = container.get(field) or {}
            action = next((each for each in _ACTIONS if probe.get(each)), None)
            if action is None:
                continue
            path = f"/app-health/{container['name']}/{ending}"
            asked[path] = _question(container, field, action, probe)
            del probe[action]
            probe["httpGet"] = {"path": path, "port": AGENT_PORT, "scheme": "HTTP"}
        for path, handler in _life_cycle(container):
            # A hook is asked for by the kubelet, too.
            question = _question(container, "lifecycle", "httpGet", handler)
            asked[path] = question
            handler["httpGet"] = {"path": path, "port": AGENT_PORT, "scheme": "HTTP"}
    return asked


def _life_cycle(container: Object) -> Iterator[tuple[str, Object]]:
    hooks = container.get("lifecycle") or {}
    for hook, ending in (("preStop", "prestopz"), ("postStart", "poststartz")):
        if (hooks.get(hook) or {}).get("httpGet"):
            yield f"/app-lifecycle/{container['name']}/{ending}", hooks[hook]


def _question(container: Object, field: str, action: str, probe: Mapping[str, Any]) -> Object:
    """`port` is a number from here on: the agent does not know the container's names for them."""
    said = dict(probe[action])
    said["port"] = _port(container, field, said.get("port"))
    return {action: said, "timeoutSeconds": int(probe.get("timeoutSeconds") or 1)}


def _port(container: Object, field: str, port: object) -> int:
    named = {each.get("name"): each.get("containerPort") for each in container.get("ports") or ()}
    found = named.get(port, port) if isinstance(port, str) else port
    try:
        return int(str(found))
    except ValueError:
        raise BadRequest(f"container {container['name']}: {field}: port {port!r} is not one of its ports") from None
