"""What a Pod finds on its disk and in its environment: tokens, roots, a kubeconfig, a resolv.conf, its variables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from isthmus.kubernetes.resources import CONFIG_MAPS
from isthmus.localruntime.controllers.actions import State

Object = dict[str, Any]
_REFERENCE = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_.]*)\)")


class BadContainer(ValueError):
    """A container that cannot be run here as it is written: which part, and why."""


@dataclass(frozen=True, slots=True)
class PodFiles:
    """One Pod's folder, mode 0700."""

    directory: Path

    @property
    def resolv_conf(self) -> Path:
        return self.directory / "resolv.conf"

    @property
    def api_token(self) -> Path:
        return self.directory / "token"

    @property
    def api_ca(self) -> Path:
        return self.directory / "ca.crt"

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "kubeconfig"

    @property
    def mesh_token(self) -> Path:
        return self.directory / "istio-token"

    @property
    def mesh_roots(self) -> Path:
        return self.directory / "root-cert.pem"

    @property
    def state(self) -> Path:
        """What containers keep over their own restarts; it goes with the Pod."""
        return self.directory / "state"

    @property
    def proxy(self) -> Path:
        return self.directory / "proxy"

    def prepare(self, *, server: str, api_ca_pem: str, namespace: str, dns_server: str) -> None:
        """Everything but the tokens."""
        self.proxy.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.directory.chmod(0o700)
        self.state.mkdir(exist_ok=True, mode=0o700)
        self.api_ca.write_text(api_ca_pem)
        self.resolv_conf.write_text(
            f"nameserver {dns_server}\nsearch {' '.join(search_domains(namespace))}\noptions ndots:5\n"
        )
        self.kubeconfig.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [
                        {"name": "here", "cluster": {"server": server, "certificate-authority": str(self.api_ca)}}
                    ],
                    "users": [{"name": "pod", "user": {"tokenFile": str(self.api_token)}}],
                    "contexts": [{"name": "here", "context": {"cluster": "here", "user": "pod"}}],
                    "current-context": "here",
                }
            )
        )


def search_domains(namespace: str) -> list[str]:
    return [f"{namespace}.svc.cluster.local", "svc.cluster.local", "cluster.local"]


def environment_of(container: Object, pod: Object, state: State, inherited: Mapping[str, str]) -> dict[str, str]:
    """The container's variables, in order, each may use those before it as $(NAME). Raises BadContainer."""
    found = dict(inherited)
    for entry in container.get("env") or ():
        name = str(entry["name"])
        if entry.get("valueFrom"):
            found[name] = _from(entry["valueFrom"], name, pod, state)
        else:
            found[name] = _REFERENCE.sub(lambda match: found.get(match[1], match[0]), str(entry.get("value") or ""))
    return found


def check_supported(pod: Object) -> None:
    """Raises BadContainer for what a process on this machine cannot be given."""
    spec = pod["spec"]
    if spec.get("initContainers"):
        raise BadContainer("spec.initContainers: the local runtime runs containers only")
    for container in spec.get("containers") or ():
        if container.get("volumeMounts"):
            raise BadContainer(f"container {container['name']}: volumeMounts: the local runtime has no volumes")
        if container.get("envFrom"):
            raise BadContainer(f"container {container['name']}: envFrom: name each variable in env instead")


def _from(source: Object, name: str, pod: Object, state: State) -> str:
    if "fieldRef" in source:
        return _field(str(source["fieldRef"]["fieldPath"]), name, pod)
    if "configMapKeyRef" in source:
        reference = source["configMapKeyRef"]
        config = state[CONFIG_MAPS].get((pod["metadata"]["namespace"], reference["name"]), {})
        value = (config.get("data") or {}).get(reference["key"])
        if value is None and not reference.get("optional"):
            raise BadContainer(f"env {name}: ConfigMap {reference['name']} has no key {reference['key']!r}")
        return str(value or "")
    raise BadContainer(f"env {name}: valueFrom {', '.join(source)} is not known here: use fieldRef or configMapKeyRef")


def _field(path: str, name: str, pod: Object) -> str:
    metadata, spec = pod["metadata"], pod["spec"]
    keyed = re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path)
    if keyed:
        return str((metadata.get(keyed[1]) or {}).get(keyed[2], ""))
    known = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "spec.nodeName": spec.get("nodeName", ""),
        "spec.serviceAccountName": spec.get("serviceAccountName", ""),
        "status.podIP": pod.get("status", {}).get("podIP", ""),
    }
    if path not in known:
        raise BadContainer(f"env {name}: no field {path!r}; there is: {', '.join(known)}")
    return str(known[path])
