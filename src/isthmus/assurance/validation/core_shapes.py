"""The part of Kubernetes' own kinds that is read: its types, so that nothing that reads it meets a surprise. Their API server knows the rest."""

from __future__ import annotations

from isthmus.assurance.validation.shapes import (
    ANY,
    FLAG,
    LABELS,
    PORT_OR_NAME,
    WORDS,
    Shape,
    many,
    mapping,
    part,
    text,
    whole,
)

METADATA = part({
    "name": text(), "namespace": text(), "labels": LABELS, "annotations": LABELS, "generateName": text(), "uid": text(),
    "ownerReferences": many(part({"kind": text(), "name": text(), "controller": FLAG})), "creationTimestamp": text(),
})  # fmt: skip
_CONTAINER = part({
    "name": text(), "image": text(), "securityContext": part({"runAsUser": whole()}),
    "ports": many(part({"containerPort": whole(1, 65535), "name": text(), "protocol": text()})),
    "env": many(part({"name": text(), "value": text()})), "restartPolicy": text(),
})  # fmt: skip
_POD_SPEC = part({
    "containers": many(_CONTAINER), "initContainers": many(_CONTAINER), "nodeName": text(), "hostNetwork": FLAG,
    "serviceAccountName": text(), "securityContext": part({"runAsUser": whole()}),
})  # fmt: skip
_CONDITIONS = many(part({"type": text(), "status": text(), "message": text(), "reason": text()}))
_TEMPLATE = part({"metadata": METADATA, "spec": _POD_SPEC})
_WORKLOAD = {"spec": part({"template": _TEMPLATE, "selector": part({"matchLabels": LABELS})})}
_CLIENT = part({"url": text(), "service": part({"name": text(), "namespace": text(), "path": text()})})
_SELECTOR = part({
    "matchLabels": LABELS, "matchExpressions": many(part({"key": text(), "operator": text(), "values": WORDS}))
})  # fmt: skip
_WEBHOOKS = {
    "webhooks": many(part({
        "name": text(), "clientConfig": _CLIENT, "namespaceSelector": _SELECTOR, "objectSelector": _SELECTOR
    }))
}  # fmt: skip
_PORTS = many(part({
    "name": text(), "port": whole(1, 65535), "targetPort": PORT_OR_NAME, "protocol": text(), "appProtocol": text()
}))  # fmt: skip

# By group and kind: the shape of the whole object's own fields.
CORE: dict[tuple[str, str], dict[str, Shape]] = {
    ("", "Service"): {
        "spec": part({
            "selector": LABELS, "ports": _PORTS, "type": text(), "clusterIP": text(), "externalName": text(),
            "clusterIPs": WORDS, "externalIPs": WORDS,
        }),
        "status": part({"conditions": _CONDITIONS, "loadBalancer": part(
            {"ingress": many(part({"ip": text(), "hostname": text()}))}
        )}),
    },
    ("", "Pod"): {
        "spec": _POD_SPEC, "status": part({"podIP": text(), "phase": text(), "podIPs": many(part({"ip": text()}))})
    },
    ("", "Namespace"): {},
    ("", "Node"): {},
    ("", "ServiceAccount"): {},
    ("", "Secret"): {"data": mapping(text()), "stringData": mapping(text()), "type": text()},
    ("", "ConfigMap"): {"data": mapping(text()), "binaryData": mapping(text())},
    ("discovery.k8s.io", "EndpointSlice"): {
        "addressType": text(), "ports": many(part({"name": text(), "port": whole(0, 65535)})),
        "endpoints": many(part({"addresses": WORDS, "conditions": part({"ready": FLAG}), "targetRef": part(
            {"kind": text(), "name": text(), "namespace": text()}
        )})),
    },
    ("apps", "Deployment"): _WORKLOAD,
    ("apps", "StatefulSet"): _WORKLOAD,
    ("apps", "DaemonSet"): _WORKLOAD,
    ("apps", "ReplicaSet"): _WORKLOAD,
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"): _WEBHOOKS,
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"): _WEBHOOKS,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): {"spec": ANY},
}  # fmt: skip
