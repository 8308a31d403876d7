"""Shapes of webhook configurations. They are read for everybody's writes: one that cannot be read must not get into the store."""

from __future__ import annotations

import base64
import binascii
import ssl
from typing import Annotated, Any, Literal

import msgspec

from isthmus.apiserver import match_conditions
from isthmus.apiserver.kinds import Kind
from isthmus.apiserver.match_conditions import Condition
from isthmus.apiserver.selectors import check_label_selector
from isthmus.apiserver.status import Refused, invalid

Object = dict[str, Any]

_WEBHOOK_KINDS = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")


class Rule(msgspec.Struct, frozen=True, rename="camel"):
    operations: list[Literal["*", "CREATE", "UPDATE", "DELETE", "CONNECT"]]
    api_groups: list[str]
    api_versions: list[str]
    resources: list[str]
    scope: Literal["*", "Cluster", "Namespaced"] = "*"


class ServiceReference(msgspec.Struct, frozen=True):
    namespace: str
    name: str
    path: str = ""
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 443


class ClientConfig(msgspec.Struct, frozen=True, rename="camel"):
    url: str = ""
    service: ServiceReference | None = None
    ca_bundle: str = ""

    @property
    def authorities(self) -> str:
        """PEM; empty for those that the machine trusts. Raises ValueError."""
        return base64.b64decode(self.ca_bundle, validate=True).decode()


class Webhook(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    client_config: ClientConfig
    side_effects: Literal["None", "NoneOnDryRun"]
    admission_review_versions: list[str]
    rules: list[Rule] = []
    failure_policy: Literal["Fail", "Ignore"] = "Fail"
    match_policy: Literal["Exact", "Equivalent"] = "Equivalent"
    namespace_selector: dict[str, Any] = {}
    object_selector: dict[str, Any] = {}
    timeout_seconds: Annotated[int, msgspec.Meta(ge=1, le=30)] = 10
    reinvocation_policy: Literal["Never", "IfNeeded"] = "Never"
    match_conditions: list[Condition] = []


class _Configuration(msgspec.Struct):
    webhooks: list[Webhook] = []


def webhooks_of(configuration: Object) -> list[Webhook]:
    """Raises msgspec.ValidationError."""
    return msgspec.convert(_without_nulls(configuration), _Configuration).webhooks


def fill(configuration: Object) -> None:
    """Writes down what is not said, so that people see what holds."""
    webhooks = configuration.get("webhooks")
    for webhook in webhooks if isinstance(webhooks, list) else ():
        if not isinstance(webhook, dict):
            continue
        for field, default in _DEFAULTS.items():
            if webhook.get(field) is None:
                webhook[field] = dict(default) if isinstance(default, dict) else default
        if configuration["kind"] == "MutatingWebhookConfiguration":
            webhook.setdefault("reinvocationPolicy", "Never")
        for rule in webhook.get("rules") or ():
            rule.setdefault("scope", "*")
        service = (webhook.get("clientConfig") or {}).get("service")
        if service:
            service.setdefault("port", 443)


_DEFAULTS: Object = {
    "failurePolicy": "Fail",
    "matchPolicy": "Equivalent",
    "namespaceSelector": {},
    "objectSelector": {},
    "timeoutSeconds": 10,
}


def check(kind: Kind, obj: Object) -> None:
    """Raises Refused (Invalid)."""
    if kind.is_custom or kind.name not in _WEBHOOK_KINDS:
        return
    name = obj["metadata"]["name"]
    try:
        webhooks = webhooks_of(obj)
    except msgspec.ValidationError as error:
        raise invalid(kind, name, "webhooks", f"Invalid value: {error}") from None
    names = [webhook.name for webhook in webhooks]
    for position, webhook in enumerate(webhooks):
        field, wrong = _wrong(webhook)
        if names.count(webhook.name) > 1:
            field, wrong = "name", f"Duplicate value: {webhook.name!r}"
        if wrong:
            raise invalid(kind, name, f"webhooks[{position}].{field}", wrong)


def _wrong(webhook: Webhook) -> tuple[str, str]:
    """The field and what is wrong with it; empty if nothing is."""
    client = webhook.client_config
    if webhook.name.count(".") < 2:
        return (
            "name",
            f"Invalid value: {webhook.name!r}: should be a domain with at least three segments separated by dots",
        )
    if "v1" not in webhook.admission_review_versions:
        return "admissionReviewVersions", "Invalid value: must include v1, the one that this server speaks"
    field, why = match_conditions.wrong(webhook.match_conditions)
    if why:
        return f"matchConditions{field}", why
    if bool(client.url) == (client.service is not None):
        return "clientConfig", "Required value: exactly one of url or service is required"
    if client.url and not client.url.startswith("https://"):
        return "clientConfig.url", f"Invalid value: {client.url!r}: 'https' is the only allowed URL scheme"
    if client.service is not None and client.service.path and not client.service.path.startswith("/"):
        return "clientConfig.service.path", f"Invalid value: {client.service.path!r}: must start with '/'"
    try:
        if client.ca_bundle:
            ssl.create_default_context(cadata=client.authorities)
    except (binascii.Error, ValueError, ssl.SSLError) as error:
        return "clientConfig.caBundle", f"Invalid value: unable to load root certificates: {error}"
    for field, selector in (
        ("namespaceSelector", webhook.namespace_selector),
        ("objectSelector", webhook.object_selector),
    ):
        try:
            check_label_selector(selector)
        except Refused as refusal:
            return field, f"Invalid value: {refusal.message}"
    return "", ""


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value
