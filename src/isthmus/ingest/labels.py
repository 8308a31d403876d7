"""The labels and annotations by which objects speak to the mesh. Istio's and Kubernetes' own names."""

from __future__ import annotations

NETWORK = "topology.istio.io/network"
CLUSTER = "topology.istio.io/cluster"
SUBZONE = "topology.istio.io/subzone"
LOCALITY = "topology.istio.io/locality"
LEGACY_LOCALITY = "istio-locality"
REGION = "topology.kubernetes.io/region"
ZONE = "topology.kubernetes.io/zone"
LEGACY_REGION = "failure-domain.beta.kubernetes.io/region"
LEGACY_ZONE = "failure-domain.beta.kubernetes.io/zone"
TLS_MODE = "security.istio.io/tlsMode"
NODE_SELECTOR = "traffic.istio.io/nodeSelector"
GATEWAY_PORT = "networking.istio.io/gatewayPort"
SERVICE_NAME = "kubernetes.io/service-name"
TRAFFIC_DISTRIBUTION = "networking.istio.io/traffic-distribution"
EXPORT_TO = "networking.istio.io/exportTo"
