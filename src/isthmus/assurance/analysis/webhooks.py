"""Webhooks of control planes: reachable, and not two for the same Pod."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, product
from typing import Any
from urllib.parse import urlsplit

from isthmus.assurance.analysis.items import Index, Item, Labels
from isthmus.assurance.catalogue import gateways as codes
from isthmus.model.addresses import is_ip
from isthmus.model.issues import Issue

_INJECTOR = "sidecar-injector.istio.io"
_OF_CONTROL_PLANES = ("istio-validator", "istio-sidecar-injector", "istiod-default-validator")
Webhook = dict[str, Any]


def external_control_planes(index: Index) -> Iterator[Issue]:
    """Webhooks that reach a control plane outside the cluster by URL."""
    for kind in ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"):
        for item in index.each(kind):
            if not item.name.startswith(_OF_CONTROL_PLANES):
                continue
            for number, webhook in enumerate(item.value.get("webhooks") or []):
                yield from _address(item, webhook, f"webhooks[{number}].clientConfig")


def _address(item: Item, webhook: Webhook, path: str) -> Iterator[Issue]:
    client = webhook.get("clientConfig") or {}
    if client.get("service") is not None:
        return
    name, url = webhook.get("name"), client.get("url")
    if not url:
        yield item.finding(codes.BAD_EXTERNAL_CONTROL_PLANE, f"webhook {name} has neither url nor service", path=path)
        return
    try:
        host = urlsplit(url).hostname
    except ValueError:
        host = None
    if not host or not url.startswith("https://"):
        yield item.finding(
            codes.BAD_EXTERNAL_CONTROL_PLANE, f"webhook {name}: {url!r} is not an https URL", path=f"{path}.url"
        )
    elif is_ip(host):
        yield item.finding(
            codes.ADDRESS_OF_CONTROL_PLANE, f"webhook {name} reaches {host} by its address", path=f"{path}.url"
        )


def injectors(index: Index) -> list[tuple[Item, Webhook]]:
    """Every injection webhook of a cluster."""
    return [
        (item, webhook)
        for item in index.each("MutatingWebhookConfiguration")
        for webhook in item.value.get("webhooks") or []
        if str(webhook.get("name", "")).endswith(_INJECTOR)
    ]


def injection_webhooks(index: Index) -> Iterator[Issue]:
    found = injectors(index)
    for item, webhook in found:
        service = (webhook.get("clientConfig") or {}).get("service")
        if service and index.get("Service", service.get("namespace") or "", service.get("name") or "") is None:
            where = f"{service.get('namespace')}/{service.get('name')}"
            yield item.finding(
                codes.INVALID_WEBHOOK, f"webhook {webhook.get('name')} calls Service {where}, which is not there"
            )
    pairs: dict[tuple[str, str], Item] = {}
    for (item, webhook), (other, second) in combinations(found, 2):
        if item is not other and _both_select(webhook, second):
            pairs[item.name, other.name] = item
            pairs[other.name, item.name] = other
    for (_, other_name), item in sorted(pairs.items()):
        yield item.finding(codes.INVALID_WEBHOOK, f"selects Pods that {other_name} selects, too")


def _both_select(one: Webhook, other: Webhook) -> bool:
    """Whether some namespace and some Pod are selected by both: tried with every label that their selectors speak of."""
    return any(
        is_selected(one, namespace, pod) and is_selected(other, namespace, pod)
        for namespace in _samples("namespaceSelector", one, other)
        for pod in _samples("objectSelector", one, other)
    )


def _samples(which: str, *webhooks: Webhook) -> Iterator[Labels]:
    values: dict[str, set[str | None]] = {}
    for webhook in webhooks:
        selector = webhook.get(which) or {}
        for key, value in (selector.get("matchLabels") or {}).items():
            values.setdefault(key, {None}).add(value)
        for expression in selector.get("matchExpressions") or []:
            values.setdefault(expression.get("key") or "", {None}).update(expression.get("values") or ["true"])
    keys = sorted(values)[:8]
    for chosen in product(*(sorted(values[key], key=str)[:6] for key in keys)):
        yield {key: value for key, value in zip(keys, chosen, strict=True) if value is not None}


def is_selected(webhook: Webhook, namespace: Labels, pod: Labels) -> bool:
    """Whether a Pod with these labels, in a namespace with those, is this webhook's."""
    return _matches(webhook.get("namespaceSelector") or {}, namespace) and _matches(
        webhook.get("objectSelector") or {}, pod
    )


def _matches(selector: dict[str, Any], labels: Labels) -> bool:
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for expression in selector.get("matchExpressions") or []:
        value, values = labels.get(expression.get("key") or ""), expression.get("values") or []
        holds = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not holds.get(expression.get("operator") or "", False):
            return False
    return True
