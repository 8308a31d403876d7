"""How proxies are run: as the config cluster's objects say it, where a control plane would read it; and as a Pod was told when it was made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import yaml

from isthmus.agent.pod import META, TOLD_OTHERWISE
from isthmus.api import proxy_config as api
from isthmus.api.registry import KINDS, UndecodableObject, decode
from isthmus.ingest.mesh_config import CONFIG_MAP
from isthmus.ingest.proxy_configs import default_config_of, proxy_config_of
from isthmus.kubernetes.resources import CONFIG_MAPS, PROXY_CONFIGS
from isthmus.localruntime.controllers.actions import Object, State
from isthmus.localruntime.controllers.injection import PROXY_CONFIG_VARIABLE
from isthmus.localruntime.images import PROXY
from isthmus.localruntime.manifests import SYSTEM
from isthmus.localruntime.pod_files import BadContainer
from isthmus.model.names import ClusterId, Namespace
from isthmus.model.proxy_config import NOTHING_SAID, ProxyConfig, ProxyConfigRule, ProxyConfigs
from isthmus.model.proxy_config_words import read


def proxy_configs_in(state: State) -> ProxyConfigs:
    """What cannot be read says nothing: the control plane, which reads the same objects, tells what is wrong with them."""
    rules = [rule for obj in state[PROXY_CONFIGS].values() for rule in _rule(obj)]
    rules.sort(key=lambda rule: (rule.created, rule.namespace, rule.name))
    config = (state[CONFIG_MAPS].get((SYSTEM, CONFIG_MAP), {}).get("data") or {}).get("mesh", "")
    try:
        document = yaml.safe_load(config)
        default = default_config_of(document)[0] if isinstance(document, Mapping) else NOTHING_SAID
    except (yaml.YAMLError, ValueError):
        default = NOTHING_SAID
    return ProxyConfigs(default=default, rules=tuple(rules), root_namespace=Namespace(SYSTEM))


def config_of(pod: Object) -> ProxyConfig:
    """As injection has written it beside the Pod's proxy. Raises BadContainer."""
    for container in pod["spec"]["containers"]:
        for entry in container.get("env") or () if container.get("image") == PROXY else ():
            if entry["name"] == PROXY_CONFIG_VARIABLE:
                try:
                    return read(msgspec.json.decode(entry.get("value") or "{}", type=dict[str, Any]))[0]
                except msgspec.MsgspecError as error:
                    raise BadContainer(f"env {PROXY_CONFIG_VARIABLE}: is not a JSON object: {error}") from None
    return NOTHING_SAID


def node_metadata(config: ProxyConfig) -> Object:
    """What Envoy says of itself, beyond what this runtime says of it."""
    said = {name.removeprefix(META): value for name, value in config.metadata if name.startswith(META)}
    return {name: value for name, value in said.items() if name not in TOLD_OTHERWISE}


def _rule(obj: Object) -> list[ProxyConfigRule]:
    try:
        found = decode(KINDS["ProxyConfig"], obj)
    except UndecodableObject:
        return []
    assert isinstance(found, api.ProxyConfig), "its kind says so"
    return [proxy_config_of(found, ClusterId(""))[0]]
