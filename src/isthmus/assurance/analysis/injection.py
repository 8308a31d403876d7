"""Who is injected, with what, and whether that is what runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

import yaml

from isthmus.assurance.analysis.items import Index, Item, Object, is_system
from isthmus.assurance.analysis.webhooks import injectors, is_selected
from isthmus.assurance.catalogue import workloads as codes
from isthmus.model.issues import Issue

INJECTION, REVISION, DATA_PLANE = "istio-injection", "istio.io/rev", "istio.io/dataplane-mode"
_POD = "sidecar.istio.io/inject"
_IMAGE = "sidecar.istio.io/proxyImage"
_PROXY = "istio-proxy"
_CONFIG_MAP = "istio-sidecar-injector"
_IMAGE_TYPES = ("distroless", "debug")


def is_ambient(namespace: Item) -> bool:
    labels = namespace.labels
    mine = labels.get(DATA_PLANE) == "ambient"
    return mine and labels.get(INJECTION) != "enabled" and not labels.get(REVISION)


def is_injected(namespace: Item) -> bool:
    labels = namespace.labels
    if labels.get(INJECTION):
        return labels[INJECTION] == "enabled"
    return bool(labels.get(REVISION))


def injection(index: Index) -> Iterator[Issue]:
    values = _injector_values(index)
    by_default = bool((values.get("", {}).get("sidecarInjectorWebhook") or {}).get("enableNamespacesByDefault"))
    for namespace in index.each("Namespace"):
        if is_system(namespace.name) or namespace.name == index.settings.root_namespace:
            continue
        yield from _namespace(namespace, by_default)
    for pod in index.each("Pod"):
        home = index.get("Namespace", "", pod.namespace)
        wanted = home is not None and is_injected(home) and not _is_several(home)
        if wanted and not _says_no(pod) and not pod.spec.get("hostNetwork") and proxy_of(pod) is None:
            yield pod.finding(codes.POD_WITHOUT_PROXY, "has no container istio-proxy")


def _is_several(namespace: Item) -> bool:
    labels = namespace.labels
    if labels.get(INJECTION) == "disabled":
        return False
    given = [labels.get(INJECTION), labels.get(REVISION), labels.get(DATA_PLANE) == "ambient"]
    return sum(map(bool, given)) > 1


def _namespace(namespace: Item, by_default: bool) -> Iterator[Issue]:
    labels = namespace.labels
    if _is_several(namespace):
        names = ", ".join(key for key in (INJECTION, REVISION, DATA_PLANE) if labels.get(key))
        yield namespace.finding(codes.SEVERAL_INJECTION_LABELS, f"has the labels {names}", path="metadata.labels")
    elif not any(labels.get(key) for key in (INJECTION, REVISION, DATA_PLANE)):
        if by_default:
            yield namespace.finding(codes.INJECTED_BY_DEFAULT, "is injected, as the injector's default says")
        else:
            yield namespace.finding(
                codes.NOT_INJECTED,
                "is not enabled for injection",
                f"kubectl label namespace {namespace.name} {INJECTION}=enabled, or {INJECTION}=disabled where that is meant",
            )


def _says_no(pod: Item) -> bool:
    """The label counts before the annotation."""
    return (pod.labels.get(_POD) or pod.annotations.get(_POD) or "").lower() == "false"


def proxy_of(pod: Item) -> Object | None:
    """The sidecar's container; a native sidecar is an init container."""
    spec = pod.spec
    for container in [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]:
        if container.get("name") == _PROXY:
            found: Object = container
            return found
    return None


def _injector_values(index: Index) -> Mapping[str, Object]:
    """The injectors' values, by revision."""
    found: dict[str, Object] = {}
    for config_map in index.each("ConfigMap"):
        if config_map.name != _CONFIG_MAP and not config_map.name.startswith(f"{_CONFIG_MAP}-"):
            continue
        try:
            values = yaml.safe_load((config_map.value.get("data") or {}).get("values") or "{}")
        except yaml.YAMLError:
            continue
        revision = config_map.labels.get(REVISION) or config_map.name.removeprefix(_CONFIG_MAP).removeprefix("-")
        found["" if revision == "default" else revision] = values if isinstance(values, dict) else {}
    return found


def proxy_images(index: Index) -> Iterator[Issue]:
    values = _injector_values(index)
    old: dict[str, list[str]] = defaultdict(list)
    for pod in index.each("Pod"):
        home, proxy = index.get("Namespace", "", pod.namespace), proxy_of(pod)
        if home is None or not is_injected(home) or proxy is None or pod.annotations.get(_IMAGE) or _says_no(pod):
            continue
        revision = home.labels.get(REVISION) or ""
        wanted = _without_type(_image(values.get(revision if revision != "default" else "")))
        if wanted and _without_type(proxy.get("image") or "") not in (wanted, "auto"):
            old[home.name].append(pod.name)
    for name, pods in sorted(old.items()):
        namespace = index.get("Namespace", "", name)
        assert namespace is not None
        yield namespace.finding(codes.IMAGE_MISMATCH, f"Pods have another proxy image: {', '.join(pods)}")


def _image(values: Object | None) -> str:
    """The image that the injector would give now; "" when it does not say."""
    installed = (values or {}).get("global")
    if not isinstance(installed, dict):
        return ""
    image = str((installed.get("proxy") or {}).get("image") or "")
    if "/" in image:
        return image
    if not image or not installed.get("hub"):
        return ""
    tag = str(installed.get("tag") or "")
    return f"{installed['hub']}/{image}" + (f":{tag}" if tag else "")


def _without_type(image: str) -> str:
    """One release comes in several types, which ProxyConfig or an annotation may choose."""
    for kind in _IMAGE_TYPES:
        image = image.removesuffix(f"-{kind}")
    return image


def image_auto(index: Index) -> Iterator[Issue]:
    webhooks = [webhook for _, webhook in injectors(index)]
    for kind, code in (("Deployment", codes.IMAGE_AUTO_WARNING), ("Pod", codes.IMAGE_AUTO_ERROR)):
        for item in index.each(kind):
            template = item.spec.get("template") or {} if kind == "Deployment" else item.value
            containers = (template.get("spec") or {}).get("containers") or []
            if not any(each.get("name") == _PROXY and each.get("image") == "auto" for each in containers):
                continue
            home = index.get("Namespace", "", item.namespace)
            labels = (template.get("metadata") or {}).get("labels") or {}
            selected = any(is_selected(webhook, home.labels if home else {}, labels) for webhook in webhooks)
            # A Pod that is there and still says auto has not been injected, whoever selects it.
            if kind == "Pod" or not selected:
                yield item.finding(code, "has image auto, and no injection webhook selects it")
