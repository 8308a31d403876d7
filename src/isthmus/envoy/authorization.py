"""AuthorizationPolicies as Envoy's role-based access control: filters before the requests or bytes reach the workload.

CUSTOM policies are `external_authorization`'s, which has their rules from here.

Asked in this order: what is denied, then what is allowed. Where an ALLOW policy holds and none matches, the request is refused. Attributes of
requests mean nothing for bytes (TCP): an ALLOW rule that needs them allows nothing there, a DENY rule goes without them, so in doubt less
is let in. A `namespace` or a `serviceAccount` means one of the mesh's own trust domains, never a foreign one of the same name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from envoy.config.core.v3 import extension_pb2
from envoy.config.listener.v3 import listener_components_pb2
from envoy.config.rbac.v3 import rbac_pb2
from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as network_rbac_pb2
from envoy.extensions.path.match.uri_template.v3 import uri_template_match_pb2
from envoy.type.matcher.v3 import metadata_pb2, path_pb2, regex_pb2, string_pb2, value_pb2

from isthmus.envoy import claims
from isthmus.envoy.common import cidr, packed
from isthmus.model.names import Namespace
from isthmus.model.security import Action, Attribute, Authorization, AuthorizationPolicy, Rule

Permission = rbac_pb2.Permission
Principal = rbac_pb2.Principal
Policy = rbac_pb2.Policy

CUSTOM_PREFIX = "istio-ext-authz-"
"""Names of rules by which an external authorization is asked begin so, as Istio's."""

_HTTP_ONLY = frozenset(
    {"hosts", "methods", "paths", "request_principals", "remote_ip_blocks", "remote.ip", "request.auth.principal",
     "request.auth.audiences", "request.auth.presenter"}
)  # fmt: skip
_HTTP_ONLY_PREFIXES = ("request.headers[", "request.auth.claims[")
_EFFECTS = {
    Action.AUDIT: rbac_pb2.RBAC.LOG,
    Action.CUSTOM: rbac_pb2.RBAC.DENY,
    Action.DENY: rbac_pb2.RBAC.DENY,
    Action.ALLOW: rbac_pb2.RBAC.ALLOW,
}
_ASKED = (Action.AUDIT, Action.DENY, Action.ALLOW)
_DRY_RUN_PREFIX = {Action.ALLOW: "istio_dry_run_allow_", Action.DENY: "istio_dry_run_deny_"}


def http_filters(authorization: Authorization, *actions: Action) -> list[Any]:
    """For requests, in the order in which they are asked; for some of the actions, or all that decide here."""
    return [
        http_connection_manager_pb2.HttpFilter(
            name="envoy.filters.http.rbac", typed_config=packed(http_rbac_pb2.RBAC(**asked))
        )
        for action in actions or _ASKED
        if (asked := _asked(authorization, action, tcp=False)) is not None
    ]


def of_requests(authorization: Authorization, action: Action) -> Any:
    """The configuration of one such filter; it asks nothing where there is nothing to ask."""
    return http_rbac_pb2.RBAC(**(_asked(authorization, action, tcp=False) or {}))


def network_filters(authorization: Authorization) -> list[Any]:
    """For bytes."""
    return [
        listener_components_pb2.Filter(
            name="envoy.filters.network.rbac", typed_config=packed(network_rbac_pb2.RBAC(stat_prefix="tcp.", **asked))
        )
        for action in _ASKED
        if (asked := _asked(authorization, action, tcp=True)) is not None
    ]


def _asked(authorization: Authorization, action: Action, *, tcp: bool) -> dict[str, Any] | None:
    """The fields that both kinds of filter have: what is enforced, and what is only counted (dry run). None where nothing is."""
    policies = [policy for policy in authorization.policies if policy.action is action]
    rules = _rules(action, [p for p in policies if not p.dry_run], authorization, tcp=tcp)
    shadow = _rules(action, [p for p in policies if p.dry_run], authorization, tcp=tcp)
    if rules is None and shadow is None:
        return None
    prefix = _DRY_RUN_PREFIX.get(action, "") if shadow is not None else ""
    return {"rules": rules, "shadow_rules": shadow, "shadow_rules_stat_prefix": prefix}


def custom_rules(authorization: Authorization, provider: str, *, tcp: bool) -> Any:
    """What the CUSTOM policies of one provider match; None where they can match nothing."""
    named = [
        p for p in authorization.policies if p.action is Action.CUSTOM and p.provider == provider and not p.dry_run
    ]
    return _rules(Action.CUSTOM, named, authorization, tcp=tcp, prefix=CUSTOM_PREFIX)


def _rules(
    action: Action,
    policies: Sequence[AuthorizationPolicy],
    authorization: Authorization,
    *,
    tcp: bool,
    prefix: str = "",
) -> Any:
    """None where there is nothing to ask. An ALLOW without a rule that can match stays, and allows nobody."""
    if not policies:
        return None
    compiled: dict[str, Any] = {}
    for policy in policies:
        for index, rule in enumerate(policy.rules):
            found = _policy(policy, rule, authorization, tcp=tcp)
            if found is not None:
                compiled[f"{prefix}ns[{policy.namespace}]-policy[{policy.name}]-rule[{index}]"] = found
    if not compiled and action is not Action.ALLOW:
        return None
    return rbac_pb2.RBAC(action=_EFFECTS[action], policies=compiled)


def _policy(policy: AuthorizationPolicy, rule: Rule, authorization: Authorization, *, tcp: bool) -> Any:
    """None for a rule that can match nothing."""
    if tcp and policy.action is Action.ALLOW and any(map(_is_http_only, _every_attribute(rule))):
        return None
    compiler = _Compiler(policy.namespace, authorization, any_domain=False)
    kept: Callable[[Iterable[Attribute]], list[Attribute]] = partial(_without_http, tcp=tcp)
    about_caller = [c for c in kept(rule.conditions) if not _is_about_target(c.name)]
    about_target = [c for c in kept(rule.conditions) if _is_about_target(c.name)]
    principals = [
        _all_principals([about.principal(attribute) for attribute in (*kept(source), *about_caller)])
        for source in rule.sources or ((),)
        for about in (_Compiler(policy.namespace, authorization, any_domain=_names_domains(source)),)
    ]
    permissions = [
        _all_permissions([compiler.permission(attribute) for attribute in (*kept(operation), *about_target)])
        for operation in rule.operations or ((),)
    ]
    return Policy(permissions=permissions, principals=principals)


def _names_domains(source: Iterable[Attribute]) -> bool:
    """Whether a source says itself which trust domains it means."""
    return any(attribute.name == "trust_domains" and attribute.values for attribute in source)


def _every_attribute(rule: Rule) -> Iterator[Attribute]:
    for group in (*rule.sources, *rule.operations):
        yield from group
    yield from rule.conditions


def _without_http(attributes: Iterable[Attribute], *, tcp: bool) -> list[Attribute]:
    return [attribute for attribute in attributes if not (tcp and _is_http_only(attribute))]


def _is_http_only(attribute: Attribute) -> bool:
    return attribute.name in _HTTP_ONLY or attribute.name.startswith(_HTTP_ONLY_PREFIXES)


def _is_about_target(name: str) -> bool:
    return name.startswith(("destination.", "connection.", "experimental."))


class _Compiler:
    """Attributes of one policy's rules; a policy's namespace completes its service accounts. Namespaces and service accounts are the mesh's
    own, unless `any_domain`: a foreign mesh may have a namespace of the same name.
    """

    def __init__(self, namespace: Namespace, authorization: Authorization, *, any_domain: bool) -> None:
        self._namespace = namespace
        self._domains = [str(domain) for domain in authorization.trust_domains]
        self._any_domain = any_domain or authorization.any_trust_domain

    def principal(self, attribute: Attribute) -> Any:
        """Whether the caller has one of the values, and none of the others."""
        parts = []
        if attribute.values:
            parts.append(_any_principal([self._caller(attribute.name, value) for value in attribute.values]))
        if attribute.not_values:
            others = _any_principal([self._caller(attribute.name, value) for value in attribute.not_values])
            parts.append(Principal(not_id=others))
        return _all_principals(parts)

    def permission(self, attribute: Attribute) -> Any:
        """Whether what is asked for has one of the values, and none of the others."""
        parts = []
        if attribute.values:
            parts.append(_any_permission([_target(attribute.name, value) for value in attribute.values]))
        if attribute.not_values:
            others = _any_permission([_target(attribute.name, value) for value in attribute.not_values])
            parts.append(Permission(not_rule=others))
        return _all_permissions(parts)

    def _caller(self, name: str, value: str) -> Any:
        match name:
            case "principals" | "source.principal":
                return _any_principal([_authenticated(pattern) for pattern in self._identities(value)])
            case "identities":
                return _authenticated(_text(value))
            case "namespaces" | "source.namespace":
                return _authenticated(regex(f"{self._own_domains()}/ns/{_glob(value)}/sa/.+"))
            case "service_accounts" | "source.serviceAccount":
                namespace, _, account = value.rpartition("/")
                path = f"/ns/{re.escape(namespace or self._namespace)}/sa/{re.escape(account)}"
                return _authenticated(regex(self._own_domains() + path))
            case "trust_domains":
                return _authenticated(regex(f"spiffe://{_glob(value, within='[^/]')}/.*"))
            case "ip_blocks" | "source.ip":
                return Principal(direct_remote_ip=cidr(value))
            case "remote_ip_blocks" | "remote.ip":
                return Principal(remote_ip=cidr(value))
            case "request_principals" | "request.auth.principal":
                return _request_principal(value)
            case "request.auth.audiences":
                return _claim(["aud"], value)
            case "request.auth.presenter":
                return _claim(["azp"], value)
        header = re.fullmatch(r"request\.headers\[(.+)\]", name)
        if header:
            return Principal(header=_header(header[1], value))
        named = re.findall(r"\[([^\]]+)\]", name.removeprefix("request.auth.claims"))
        return _claim(named, value) if named and name.startswith("request.auth.claims") else _nobody()

    def _identities(self, value: str) -> Iterator[Any]:
        """A principal of one of the mesh's own trust domains (`cluster.local` always means those) is one of each of them."""
        if value == "*":
            yield regex("spiffe://.+")
            return
        domain, slash, path = value.partition("/")
        domains = [domain]
        if slash and (domain in self._domains or domain == "cluster.local"):
            domains = self._domains
        for one in dict.fromkeys(domains):
            text = f"{one}{slash}{path}"
            if text.startswith("*"):
                yield regex("spiffe://.*" + re.escape(text[1:]))
            elif text.endswith("*"):
                yield string_pb2.StringMatcher(prefix=f"spiffe://{text[:-1]}")
            else:
                yield string_pb2.StringMatcher(exact=f"spiffe://{text}")

    def _own_domains(self) -> str:
        own = "|".join(map(re.escape, self._domains))
        return "spiffe://[^/]+" if self._any_domain else f"spiffe://({own})"


def _target(name: str, value: str) -> Any:
    match name:
        case "hosts":
            host = regex(f"(?i){_glob(value)}" + ("" if ":" in value else "(:[0-9]+)?"))
            return Permission(header=route_components_pb2.HeaderMatcher(name=":authority", string_match=host))
        case "methods":
            return Permission(header=_header(":method", value))
        case "paths":
            return _path(value)
        case "ports" | "destination.port":
            return (
                Permission(destination_port=int(value))
                if value.isdigit()
                else Permission(not_rule=Permission(any=True))
            )
        case "destination.ip":
            return Permission(destination_ip=cidr(value))
        case "connection.sni":
            return Permission(requested_server_name=_text(value))
    told = re.fullmatch(r"experimental\.(envoy\.filters\.[^\[]+)\[(.+)\]", name)
    return _told_by_filter(told[1], told[2], value) if told else Permission(not_rule=Permission(any=True))


def _told_by_filter(filter_name: str, key: str, value: str) -> Any:
    """What another filter has noted under the key: a text, or, where the value is in brackets, a list with such a text."""
    is_list = value.startswith("[") and value.endswith("]")
    text = value_pb2.ValueMatcher(string_match=_text(value[1:-1] if is_list else value))
    wanted = value_pb2.ValueMatcher(list_match=value_pb2.ListMatcher(one_of=text)) if is_list else text
    path = [metadata_pb2.MetadataMatcher.PathSegment(key=key)]
    return Permission(metadata=metadata_pb2.MetadataMatcher(filter=filter_name, path=path, value=wanted))


def _path(value: str) -> Any:
    if "{*}" in value or "{**}" in value:
        template = value.replace("{**}", "**").replace("{*}", "*")
        matcher = uri_template_match_pb2.UriTemplateMatchConfig(path_template=template)
        return Permission(
            uri_template=extension_pb2.TypedExtensionConfig(name="uri-template", typed_config=packed(matcher))
        )
    return Permission(url_path=path_pb2.PathMatcher(path=_text(value)))


def _request_principal(value: str) -> Any:
    """`ISSUER/SUBJECT` of a validated token. The subject is what stands after the last slash."""
    if value == "*":
        return _all_principals([_claim(["iss"], "*"), _claim(["sub"], "*")])
    issuer, slash, subject = value.rpartition("/")
    if not slash:
        return _claim(["iss"], value) if value.endswith("*") else _claim(["sub"], value)
    return _all_principals([_claim(["iss"], issuer or "*"), _claim(["sub"], subject or "*")])


def _claim(path: Sequence[str], value: str) -> Any:
    return Principal(metadata=claims.claim(path, value_pb2.ValueMatcher(string_match=_text(value))))


def _header(name: str, value: str) -> Any:
    if value == "*":
        return route_components_pb2.HeaderMatcher(name=name, present_match=True)
    return route_components_pb2.HeaderMatcher(name=name, string_match=_text(value))


def _text(value: str) -> Any:
    """Istio's patterns: `*` anything that is there, `abc*` a beginning, `*abc` an end, otherwise the whole."""
    if value == "*":
        return regex(".+")
    if value.startswith("*"):
        return string_pb2.StringMatcher(suffix=value[1:])
    if value.endswith("*"):
        return string_pb2.StringMatcher(prefix=value[:-1])
    return string_pb2.StringMatcher(exact=value)


def regex(expression: str) -> Any:
    """The whole text has to match."""
    return string_pb2.StringMatcher(safe_regex=regex_pb2.RegexMatcher(regex=expression))


def _glob(value: str, within: str = ".") -> str:
    """Each `*` stands for any characters."""
    return f"{within}*".join(map(re.escape, value.split("*")))


def _authenticated(pattern: Any) -> Any:
    return Principal(authenticated=Principal.Authenticated(principal_name=pattern))


def _nobody() -> Any:
    return Principal(not_id=Principal(any=True))


def _all_principals(parts: Sequence[Any]) -> Any:
    if not parts:
        return Principal(any=True)
    return parts[0] if len(parts) == 1 else Principal(and_ids=Principal.Set(ids=parts))


def _any_principal(parts: Sequence[Any]) -> Any:
    return parts[0] if len(parts) == 1 else Principal(or_ids=Principal.Set(ids=parts))


def _all_permissions(parts: Sequence[Any]) -> Any:
    if not parts:
        return Permission(any=True)
    return parts[0] if len(parts) == 1 else Permission(and_rules=Permission.Set(rules=parts))


def _any_permission(parts: Sequence[Any]) -> Any:
    return parts[0] if len(parts) == 1 else Permission(or_rules=Permission.Set(rules=parts))
