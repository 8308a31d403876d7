"""What a Pod's status says of its containers. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from isthmus.localruntime.controllers.actions import conditions

Object = dict[str, Any]


@dataclass(slots=True)
class ContainerState:
    """One container as its kubelet knows it. `waiting` is a reason and a message; empty while it runs."""

    name: str
    image: str
    ready: bool = False
    running_since: str = ""
    restarts: int = 0
    waiting: tuple[str, str] = ("ContainerCreating", "")
    last_exit: int | None = None
    probe_message: str = ""


def status(pod: Object, ip: str, containers: Sequence[ContainerState], now: str) -> Object:
    """The whole status, for a merge patch."""
    ready = all(container.ready for container in containers)
    started = any(container.running_since for container in containers)
    unready = [container.name for container in containers if not container.ready]
    why = f"containers with unready status: {' '.join(unready)}" if unready else ""
    told = {
        "PodScheduled": (True, "", ""),
        "Initialized": (True, "", ""),
        "ContainersReady": (ready, "" if ready else "ContainersNotReady", why),
        "Ready": (ready, "" if ready else "ContainersNotReady", why),
    }
    return {
        "phase": "Running" if started else "Pending",
        "conditions": conditions(pod, told, now),
        **({"podIP": ip, "podIPs": [{"ip": ip}]} if ip else {}),
        "startTime": pod.get("status", {}).get("startTime") or now,
        "containerStatuses": [_container(container) for container in containers],
        "qosClass": "BestEffort",
    }


def _container(container: ContainerState) -> Object:
    reason, message = container.waiting
    if container.running_since and not reason:
        state: Object = {"running": {"startedAt": container.running_since}}
    else:
        state = {"waiting": {"reason": reason} | ({"message": message} if message else {})}
    last = {"terminated": {"exitCode": container.last_exit, "reason": "Error" if container.last_exit else "Completed"}}
    return {
        "name": container.name,
        "image": container.image,
        "imageID": "",
        "ready": container.ready,
        "started": bool(container.running_since),
        "restartCount": container.restarts,
        "state": state,
        "lastState": last if container.last_exit is not None else {},
    }
