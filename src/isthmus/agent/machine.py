"""The agent of a machine outside every cluster: what the files of its kit say becomes the agent's settings and its one proxy. No I/O.

The files are Istio's: what `istioctl x workload entry configure` writes says the same here. The names in `cluster.env` are those that an injector
puts into a Pod.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import yaml

from isthmus.agent.pod import BadPod, PodAgent, PodPaths, PodTexts, pod_agent
from isthmus.agent.probe_words import read_probe
from isthmus.injection.settings import Capture
from isthmus.installation.machine_kit import ENVIRONMENT, MESH

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class KitTexts:
    """What is in the files that say what to do; token and roots are read where they are."""

    environment: str
    mesh: str
    resolv_conf: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineAgent:
    """`probe` asks the machine's application how it is; empty for none."""

    pod: PodAgent
    probe: Object
    capture: Capture


def machine_agent(kit: KitTexts, paths: PodPaths, *, name: str, address: str, state: str) -> MachineAgent:
    """`name` is the machine's, `address` the one by which others reach it; in the folder `state` it keeps what it has to know after a
    restart. Raises BadPod.
    """
    environment, config = _environment(kit.environment), _default_config(kit.mesh)
    for key, value in _object(config.pop("proxyMetadata", None), "proxyMetadata").items():
        environment.setdefault(str(key), str(value))
    namespace = environment.get("POD_NAMESPACE") or environment.get("ISTIO_NAMESPACE") or ""
    if not namespace:
        raise BadPod(f"{ENVIRONMENT}: POD_NAMESPACE is not set")
    probe = _probe(config)
    environment |= {
        "POD_NAME": name,
        "POD_NAMESPACE": namespace,
        "INSTANCE_IP": address,
        "PROXY_CONFIG": json.dumps(config),
    }
    if "meshId" in config:
        environment.setdefault("ISTIO_META_MESH_ID", str(config["meshId"]))
    pod = pod_agent("sidecar", environment, paths, PodTexts(labels="", resolv_conf=kit.resolv_conf))
    # The agent may change its machine's network, so it may mark sockets; and nobody puts new tokens into a kit.
    proxy = msgspec.structs.replace(pod.proxy, marks_sockets=True)
    settings = msgspec.structs.replace(pod.settings, last_good=state, proves_by_certificate=True)
    return MachineAgent(
        pod=replace(pod, proxy=proxy, settings=settings),
        probe=probe,
        capture=Capture(
            inbound_ports=environment.get("ISTIO_INBOUND_PORTS") or "*",
            excluded_inbound_ports=environment.get("ISTIO_LOCAL_EXCLUDE_PORTS", "22"),
            outbound_ranges=environment.get("ISTIO_SERVICE_CIDR") or "*",
            # The agent itself asks control planes there, before there is a proxy.
            excluded_outbound_ports=",".join(sorted({way.rpartition(":")[2] for way in settings.control_planes})),
        ),
    )


def _environment(text: str) -> dict[str, str]:
    """`NAME='value'` lines, quoted as a shell has it."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise BadPod(f"{ENVIRONMENT}: line {number}: {error}") from None
        for word in words:
            name, equals, value = word.removeprefix("export ").partition("=")
            if not equals or not name.isidentifier():
                raise BadPod(f"{ENVIRONMENT}: line {number}: {word[:80]!r} is not NAME=VALUE")
            found[name] = value
    return found


def _default_config(text: str) -> Object:
    try:
        document = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise BadPod(f"{MESH}: {str(error).splitlines()[0]}") from None
    config = document.get("defaultConfig", {}) if isinstance(document, dict) else None
    if not isinstance(config, dict):
        raise BadPod(f"{MESH}: has no defaultConfig with fields")
    return dict(config)


def _object(value: Any, field: str) -> Object:
    if value is not None and not isinstance(value, dict):
        raise BadPod(f"{MESH}: defaultConfig.{field} has no fields")
    return value or {}


def _probe(config: Object) -> Object:
    said = _object(config.get("readinessProbe"), "readinessProbe")
    try:
        return read_probe(said) if said else {}
    except ValueError as error:
        raise BadPod(f"{MESH}: defaultConfig.readinessProbe: {error}") from None
