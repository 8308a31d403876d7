"""What can be wrong between routes, hosts, gateways and the services that they lead to."""

from __future__ import annotations

from isthmus.assurance.catalogue.code import error, warning

NOT_FOUND = error(
    "IST0101",
    "Something that is referred to does not exist.",
    "Requests that need it fail, or the rule never applies. A name without a namespace is looked for in the object's own.",
    "Create what is named, or correct the reference.",
)
CONFLICTING_MESH_HOSTS = error(
    "IST0109",
    "Several VirtualServices of the mesh have rules for one host.",
    "Sidecars use the oldest one alone; the others' rules do nothing.",
    "Merge them into one VirtualService, or export each to namespaces of its own.",
)
RULES_AND_ROUTE = warning(
    "ISM0834",
    "A VirtualService and a route that is bound to a Service have rules for one host.",
    "Callers in the route's namespace follow the route, all others the older of the two; what the other one says does nothing for them.",
    "Write all rules for the host into one of them, and delete the other.",
)
PORT_NEEDED = error(
    "IST0112",
    "A route leads to a service with several ports and does not say which one.",
    "The port is guessed from the one that was called, and may be wrong.",
    "Set destination.port.number.",
)
HOST_NOT_IN_GATEWAY = warning(
    "IST0132",
    "A host is not served by the gateway that the rules are bound to.",
    "Nobody can call the host through that gateway.",
    "Add the host to a server of the Gateway, or bind the rules to another one.",
)
NO_EFFECT_ON_INGRESS = warning(
    "IST0140",
    "Rules for a subset's host have no effect on requests that come through a gateway.",
    "The gateway routes by the rules that are bound to it; rules for the mesh apply to sidecars only.",
    "Name the subset in the rules that are bound to the gateway.",
)
JWT_WITHOUT_AUTHENTICATION = error(
    "IST0149",
    "Routes match claims of tokens that nobody checks.",
    "Without a RequestAuthentication for the gateway no claim is known: a match never holds, and one in withoutHeaders always does.",
    "Create a RequestAuthentication that selects the gateway's Pods.",
)
INTERNAL_GATEWAY = warning(
    "IST0165",
    "Rules are bound to a Gateway that was made from a Gateway API object.",
    "Such a Gateway is internal, and its name may change.",
    "Bind routes to the Gateway API object, or create a Gateway of your own.",
)
NO_CA_FOR_HOST = warning(
    "IST0128",
    "Nobody is named who vouches for a host's certificate.",
    "Whoever the system's authorities vouch for is believed, and nobody else; older proxies of Istio believe anybody.",
    "Set tls.caCertificates (`system`, if that is meant), or credentialName together with workloadSelector.",
)
NO_CA_FOR_PORT = warning(
    "IST0129",
    "Nobody is named who vouches for the certificate of a host's port.",
    "Whoever the system's authorities vouch for is believed, and nobody else; older proxies of Istio believe anybody.",
    "Set tls.caCertificates of the port (`system`, if that is meant), or credentialName together with workloadSelector.",
)
SUBSET_SELECTS_NOBODY = error(
    "IST0173",
    "A subset selects no Pod.",
    "Every request that is routed to it fails.",
    "Correct the subset's labels, or run Pods that have them.",
)
UNKNOWN_RULE_HOST = warning(
    "IST0174",
    "A DestinationRule is for a host that nobody knows.",
    "It applies to nothing.",
    "Correct the host; a short name is completed with the rule's own namespace.",
)
ADDRESSES_NEEDED = warning(
    "IST0134",
    "A ServiceEntry for a TCP port has no address.",
    "Connections without a host name in them can be told apart by address alone.",
    "Set spec.addresses, or let proxies allocate addresses (ISTIO_META_DNS_AUTO_ALLOCATE).",
)
CONFLICTING_PROTOCOLS = warning(
    "IST0177",
    "Two ServiceEntries give one host and port different protocols.",
    "One of them wins for both, and the other's traffic breaks.",
    "Use one protocol, or export them to different namespaces.",
)
