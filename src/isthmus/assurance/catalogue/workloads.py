"""What can be wrong with workloads, their services, and what is injected into them."""

from __future__ import annotations

from isthmus.assurance.catalogue.code import error, info, warning

NOT_INJECTED = info(
    "IST0102",
    "A namespace with Pods is not enabled for injection.",
    "Its Pods take no part in the mesh.",
    "Label the namespace istio-injection=enabled, or istio-injection=disabled to say that this is meant.",
)
POD_WITHOUT_PROXY = warning(
    "IST0103",
    "A Pod has no proxy, although its namespace is enabled for injection.",
    "It was created before that, so it takes no part in the mesh.",
    "Restart the workload.",
)
SEVERAL_SERVICES = warning(
    "IST0116",
    "A Deployment belongs to several Services that give one port different protocols.",
    "Its proxies can treat the port in one way only.",
    "Give the port the same protocol in all of them.",
)
PORT_NAME = info(
    "IST0118",
    "A port's name does not say its protocol.",
    "The protocol is detected from the first bytes, which costs time and is not always right.",
    "Name it PROTOCOL or PROTOCOL-SOMETHING (http-web), or set appProtocol.",
)
SEVERAL_INJECTION_LABELS = warning(
    "IST0123",
    "A namespace has several labels about injection.",
    "It is not clear which one counts.",
    "Keep either istio-injection or istio.io/rev.",
)
CONFLICTING_PORTS = warning(
    "IST0137",
    "Services lead from different ports to one port of a Deployment.",
    "Its proxies can know the port as one of them only.",
    "Use the same port in all of them, or a target port for each.",
)
RESERVED_USER = warning(
    "IST0144",
    "An application runs as user 1337.",
    "That user is the sidecar's; its traffic goes round the sidecar.",
    "Run it as another user.",
)
IMAGE_AUTO_WARNING = warning(
    "IST0146",
    "Pods of a workload wait for an injector that does not select them.",
    "`image: auto` is not an image; without injection the container cannot start.",
    "Enable injection for its namespace and Pods.",
)
IMAGE_AUTO_ERROR = error(
    "IST0147",
    "A Pod waits for an injector that did not select it.",
    "`image: auto` is not an image; the container cannot start.",
    "Enable injection for its namespace and the Pod, and create it anew.",
)
INJECTED_BY_DEFAULT = info(
    "IST0148",
    "A namespace is injected by default.",
    "The injector is set to inject every namespace that does not say otherwise.",
    "Nothing; or label the namespace istio-injection=disabled.",
)
EXTERNAL_NAME_PORT = warning(
    "IST0150",
    "A port of an ExternalName Service is not named for a protocol that its requests can be told apart by.",
    "As plain TCP it may take the traffic of every other destination on the port.",
    "Name the port for its protocol: http, https, tls.",
)
IMAGE_MISMATCH = warning(
    "IST0158",
    "Pods run another proxy than the injector would give them now.",
    "After an upgrade, Pods keep their proxy until they are restarted.",
    "Restart the workloads.",
)
