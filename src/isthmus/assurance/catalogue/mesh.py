"""What can be wrong between clusters, networks and trust: what no single cluster shows."""

from __future__ import annotations

from isthmus.assurance.catalogue.code import error, info, warning

UNKNOWN_REGISTRY = error(
    "IST0126",
    "MeshNetworks names a cluster that is not in the mesh.",
    "Nobody is in the network by that name, so its workloads are taken for others'.",
    "Use the id that the cluster has in its remote secret.",
)
CLUSTER_WITHOUT_NETWORK = warning(
    "ISM0802",
    "Some clusters say which network they are in, and one does not.",
    "Its workloads are taken for workloads of one unnamed network, which no other one reaches.",
    "Label its system namespace topology.istio.io/network=NETWORK, or name the cluster in MeshNetworks.",
)
NETWORKS_DISAGREE = warning(
    "ISM0803",
    "A cluster's label and MeshNetworks put it into different networks.",
    "The label counts; what MeshNetworks says about the cluster has no effect.",
    "Make both say the same.",
)
GATEWAY_EXPOSES_NOTHING = warning(
    "ISM0804",
    "A network's gateway passes nothing through.",
    "No Gateway object with TLS mode AUTO_PASSTHROUGH selects its Pods, so calls from other networks are refused.",
    "Create a Gateway with a server of mode AUTO_PASSTHROUGH on port 15443 that selects it.",
)
WRONG_CLUSTER_ID = error(
    "ISM0805",
    "A remote secret gives a cluster another id than the cluster has.",
    "Its proxies claim an id that the control plane does not know: they get no configuration.",
    "Create the remote secret with the cluster's own id as key.",
)
CLUSTER_KNOWN_TWICE = error(
    "ISM0806",
    "Several remote secrets are for one cluster.",
    "Under one id, one of them counts; under two ids, its endpoints count twice.",
    "Keep one of them.",
)
SECRET_FOR_NOBODY = info(
    "ISM0807",
    "A remote secret is for a cluster that is not part of this question.",
    "What is said about the mesh leaves that cluster out.",
    "Name the cluster, too, to have the whole mesh looked at.",
)
SUBSET_MISSING_ELSEWHERE = warning(
    "ISM0808",
    "A subset has Pods in some clusters only.",
    "Clusters that have the service but no Pod of the subset send all of its requests to the others.",
    "Run Pods with the subset's labels there, too; or mean it so.",
)
RULE_DIFFERS = warning(
    "ISM0809",
    "A DestinationRule's subsets differ between control planes.",
    "A gateway passes a subset's requests through by the name that its own control plane knows; others are refused.",
    "Apply the same DestinationRule to every primary cluster.",
)
ROOTS_DIFFER = error(
    "ISM0812",
    "Clusters of one trust domain have different root certificates.",
    "Mutual TLS between their workloads fails: CERTIFICATE_VERIFY_FAILED.",
    "Give their authorities one root, or make each trust the other's (caCertificates, or bundles).",
)
TRUST_DOMAINS_DIFFER = warning(
    "ISM0813",
    "Control planes have different trust domains, and do not know each other's.",
    "Workloads refuse each other's certificates, and policies by principal do not match.",
    "Use one trust domain, or name the others in trustDomainAliases and exchange their bundles.",
)
MTLS_DIFFERS = warning(
    "ISM0814",
    "Control planes have different PeerAuthentications for the same namespace.",
    "One workload accepts plaintext in one cluster and refuses it in the other.",
    "Apply the same policies to every primary cluster.",
)
POLICY_MISSING = warning(
    "ISM0815",
    "A policy is in force in some clusters, and missing or different in others of the mesh.",
    "Who may call a workload depends on which cluster's endpoint answers.",
    "Apply the same policy to every primary cluster.",
)
LOCALITY_IS_INERT = warning(
    "ISM0816",
    "Locality settings have no effect.",
    "Traffic fails over only when failures are noticed, and localities differ only when workloads have them.",
    "Set outlierDetection for the host, and give Nodes the labels of their region and zone.",
)
HIDDEN_SERVICE = warning(
    "ISM0817",
    "A route leads to a service that its callers do not see.",
    "The service is exported to other namespaces only, so requests fail with no route or no upstream.",
    "Export the service to the callers' namespace, or route to another one.",
)
IGNORED_CONFIGURATION = info(
    "ISM0818",
    "Configuration is in a cluster whose control plane does not read it.",
    "A remote cluster's rules and policies have no effect; its control plane reads its own cluster alone.",
    "Apply it to the config cluster.",
)
NETWORK_OF_GATEWAY_UNKNOWN = warning(
    "ISM0819",
    "A gateway stands for a network that nobody is in.",
    "It is never used; likely one of the two names is misspelt.",
    "Make the label topology.istio.io/network of the gateway and of the workloads agree.",
)
MESHES_DIFFER = warning(
    "ISM0820",
    "Control planes of one mesh differ in a setting that must agree.",
    "Whether a request works depends on which control plane configured its proxy.",
    "Give every primary cluster the same MeshConfig.",
)
UNSTABLE_GATEWAY = warning(
    "ISM0821",
    "A network's only gateway is one Pod.",
    "When it restarts, nothing gets into the network.",
    "Run at least two replicas, on different Nodes.",
)
LOCAL_ONLY_NAME = info(
    "ISM0822",
    "A service is not declared in every cluster whose workloads are in the mesh.",
    "A cluster's own DNS answers for its own Services alone; there, callers need the DNS proxy to find it.",
    "Declare the Service there, too (it needs no Pods), or let proxies answer DNS.",
)
EXPIRING_CREDENTIAL = warning(
    "ISM0823",
    "The credential in a remote secret has expired, or will soon.",
    "The control plane then sees no change of that cluster any more.",
    "Renew it: isthmus link --renew, or isthmus create-remote-secret.",
)
EVERYTHING_EXPOSED = info(
    "ISM0824",
    "A network's gateway passes every service through.",
    "Any workload of another network may try to call any service; only policies stand in between.",
    "Name the hosts that are meant for other networks, instead of *.local.",
)
HEADLESS_ACROSS_NETWORKS = warning(
    "ISM0825",
    "A headless service has Pods on several networks, and some of them have no name.",
    "Its clients are told the addresses of Pods on their own network; one of another network is called by its own name, or not at all.",
    "Give each Pod a hostname, and the Service as subdomain, as a StatefulSet does; or call it through a Service with an address.",
)
ONE_WAY_DISCOVERY = warning(
    "ISM0827",
    "One control plane discovers a cluster that does not discover it.",
    "Workloads of the one cluster get the other's endpoints, but not the other way round.",
    "Run isthmus link, or create the missing remote secret; or mean it so.",
)
CONFIGURATION_DIFFERS = info(
    "ISM0828",
    "A rule is in some primary clusters, and missing or different in others.",
    "What a request meets depends on which control plane configured its proxy.",
    "Apply the same configuration to every primary cluster.",
)
EXPORT_OF_NOTHING = error(
    "ISM0829",
    "A ServiceExport has no Service of its name.",
    "Nothing is exported.",
    "Create the Service, or correct the export's name and namespace.",
)
WRONG_CA_BUNDLE = error(
    "ISM0830",
    "A webhook trusts another authority than its control plane has.",
    "The API server refuses to call it: Pods cannot be created, or are created without a sidecar.",
    "Set the webhook's caBundle to the control plane's root certificate.",
)
ROOTS_IN_NAMESPACES = error(
    "ISM0831",
    "Namespaces of one cluster were given different root certificates.",
    "Proxies of the one do not trust the control plane or the workloads of the other.",
    "Delete the ConfigMaps istio-ca-root-cert that are old; the control plane writes them anew.",
)
OVERLAPPING_RANGES = error(
    "ISM0832",
    "Address ranges of two networks overlap.",
    "Which network an address belongs to is decided by which range is looked at first.",
    "Make the ranges exclude each other, or say networks by labels and fromRegistry.",
)
