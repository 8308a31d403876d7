"""What can be wrong between gateways, their workloads and their certificates, and at the webhooks of a control plane."""

from __future__ import annotations

from isthmus.assurance.catalogue.code import error, info, warning

DUPLICATE_CERTIFICATE = warning(
    "IST0138",
    "Gateways of one workload use one certificate for different hosts.",
    "Browsers reuse a connection for every host of its certificate, and get 404 for hosts of the other Gateway.",
    "Serve the hosts from one Gateway, or use a certificate for each.",
)
INVALID_WEBHOOK = error(
    "IST0139",
    "An injection webhook overlaps with another one, or its control plane does not exist.",
    "Pods get the wrong sidecar, or cannot be created.",
    "Remove the webhook that is not used, or correct its selectors and service.",
)
CONFLICTING_GATEWAYS = error(
    "IST0145",
    "Two Gateways serve the same host on one port of the same workload.",
    "Only one of them counts, and which one depends on their age.",
    "Merge the servers, or give them different hosts, ports or selectors.",
)
INVALID_CREDENTIAL = error(
    "IST0161",
    "The credential that a Gateway refers to cannot be used.",
    "The server gets no certificate, so clients cannot connect.",
    "Renew the Secret: tls.crt and tls.key as PEM, of one pair, not expired.",
)
PORT_NOT_ON_SERVICE = warning(
    "IST0162",
    "A Gateway's port is not a port of its workload's Service.",
    "The port is open at the gateway, but nobody gets there through the Service.",
    "Add the port to the Service, or use one that it has.",
)
BAD_EXTERNAL_CONTROL_PLANE = warning(
    "IST0163",
    "A webhook has no usable address of the external control plane.",
    "The API server cannot call it, so Pods are not injected and objects are not checked.",
    "Set clientConfig.url to https://HOST:PORT of the external control plane's gateway.",
)
ADDRESS_OF_CONTROL_PLANE = info(
    "IST0164",
    "A webhook reaches the external control plane by address.",
    "Certificates name hosts, and addresses change.",
    "Use a host name.",
)
INEFFECTIVE_SELECTOR = warning(
    "IST0166",
    "A policy selects the Pods of a Gateway API gateway by labels.",
    "It holds there only while the gateway's Pods have these labels, which whoever deploys it chooses.",
    "Use targetRefs with the Gateway's name.",
)
OLD_GATEWAY_API = warning(
    "IST0176",
    "A CRD of the Gateway API is older than what is read.",
    "Fields and versions that are needed may be missing.",
    "Install the CRDs of a newer Gateway API release.",
)
WRONG_KEY = error(
    "ISM0826",
    "The key of a credential does not belong to its certificate.",
    "Envoy refuses the pair, so the server gets no certificate.",
    "Renew the Secret with a key and the certificate that was made for it.",
)
