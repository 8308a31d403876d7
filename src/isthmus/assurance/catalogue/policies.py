"""What can be wrong with policies and what they select."""

from __future__ import annotations

from isthmus.assurance.catalogue.code import error, warning

CONFLICTING_SIDECARS = error(
    "IST0110",
    "Several Sidecars select one Pod.",
    "One of them counts, and which one depends on their age.",
    "Make their selectors exclude each other.",
)
SEVERAL_DEFAULT_SIDECARS = error(
    "IST0111",
    "A namespace has several Sidecars without a selector.",
    "One of them counts, and which one depends on their age.",
    "Keep one of them, or select workloads by labels.",
)
MTLS_CONFLICT = error(
    "IST0113",
    "A DestinationRule and a PeerAuthentication contradict each other about mutual TLS.",
    "Clients speak in a way that the workloads refuse, so connections fail.",
    "Use tls.mode ISTIO_MUTUAL, or leave tls out: it is then chosen for each workload.",
)
NOBODY_SELECTED = warning(
    "IST0127",
    "A policy selects no workload.",
    "It protects nothing.",
    "Correct its selector or its namespace, or delete it.",
)
INVALID_PROVIDER = warning(
    "IST0157",
    "A Telemetry names no provider, and there is no default one.",
    "It is ignored.",
    "Name a provider of MeshConfig's extensionProviders, or set defaultProviders.",
)
CONFLICTING_TELEMETRIES = error(
    "IST0159",
    "Several Telemetries select one Pod.",
    "One of them counts, and which one depends on their age.",
    "Make their selectors exclude each other.",
)
SEVERAL_DEFAULT_TELEMETRIES = error(
    "IST0160",
    "A namespace has several Telemetries without a selector.",
    "One of them counts, and which one depends on their age.",
    "Keep one of them, or select workloads by labels.",
)
INEFFECTIVE_POLICY = warning(
    "IST0167",
    "A policy has no effect where it is.",
    "Its workloads have no proxy that would read it.",
    "Delete it, or use a policy that ambient workloads have.",
)
UNRESTRICTED_KEYS = warning(
    "IST0175",
    "The control plane fetches keys from any address that a RequestAuthentication names.",
    "Who may create one can make the control plane call addresses inside.",
    "Set BLOCKED_CIDRS_IN_JWKS_URIS in the control plane's environment.",
)
RELATIVE_OPERATION = warning(
    "IST0151",
    "An EnvoyFilter patches relative to something, without a priority.",
    "What it is relative to may not be there yet when it is applied.",
    "Set spec.priority, or use INSERT_FIRST or ADD.",
)
WRONG_REPLACE = error(
    "IST0152",
    "An EnvoyFilter replaces something that cannot be replaced.",
    "REPLACE is for HTTP_FILTER and NETWORK_FILTER.",
    "Use MERGE, or REMOVE and ADD.",
)
WRONG_ADD = error(
    "IST0153",
    "An EnvoyFilter adds something where it would be ignored.",
    "ADD does nothing for ROUTE_CONFIGURATION and HTTP_ROUTE.",
    "Use INSERT_FIRST, or MERGE.",
)
WRONG_REMOVE = error(
    "IST0154",
    "An EnvoyFilter removes something that it cannot remove.",
    "REMOVE does nothing for ROUTE_CONFIGURATION and HTTP_ROUTE.",
    "Use MERGE to change it.",
)
RELATIVE_WITH_VERSION = warning(
    "IST0155",
    "An EnvoyFilter patches relative to something, for one proxy version, without a priority.",
    "During an upgrade it may not be applied.",
    "Set spec.priority, or use INSERT_FIRST or ADD.",
)
