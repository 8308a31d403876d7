"""What an installation may be told: a profile, and values by dotted names. Each is documented here, and nowhere else."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from isthmus import __version__
from isthmus.injection.selection import DEFAULT_REVISION
from isthmus.injection.settings import InjectionSettings


class Profile(StrEnum):
    """What a cluster is to its mesh."""

    PRIMARY = "primary"
    REMOTE = "remote"
    EXTERNAL = "external"


class BadValue(ValueError):
    """A value that cannot be used: which, and why."""


@dataclass(frozen=True, slots=True)
class Value:
    """One thing that may be set. Profiles: those that it has a meaning for, all if empty."""

    name: str
    default: str
    meaning: str
    profiles: tuple[Profile, ...] = ()


_CONTROL_PLANE = (Profile.PRIMARY, Profile.EXTERNAL)
_WORKLOADS = (Profile.PRIMARY, Profile.REMOTE)
VALUES = (
    Value("cluster", "Kubernetes", "the cluster's id in the mesh; of an external control plane: the id of its config cluster"),
    Value("network", "", "the network of the cluster's Pods", _WORKLOADS),
    Value("mesh", "mesh1", "the mesh's id"),
    Value("trustDomain", "cluster.local", "the mesh's trust domain"),
    Value("namespace", "istio-system", "the system namespace"),
    Value("revision", DEFAULT_REVISION, "several control planes in one cluster have different ones"),
    Value("tags", "", "other names of the revision, separated by commas", _CONTROL_PLANE),
    Value("hub", "isthmus", "where images are"),
    Value("tag", __version__, "the images' tag"),
    Value("crds", "", "all or remote: which definitions are installed; a remote has those that are read from every cluster", _WORKLOADS),
    Value("controlPlane.replicas", "", "how many there are; nobody else may scale what is said here", _CONTROL_PLANE),
    Value("controlPlane.cpu", "200m", "what each asks for", _CONTROL_PLANE),
    Value("controlPlane.memory", "256Mi", "what each asks for", _CONTROL_PLANE),
    Value("controlPlane.exposed", "", "gateway or loadBalancer: how remote clusters reach it; an external one has a load balancer", _CONTROL_PLANE),
    Value("controlPlane.address", "", "IP address or host name at which this cluster's proxies find their control plane", (Profile.REMOTE,)),
    Value("controlPlane.cluster", "", "id of the cluster that it runs in: it may write roots and webhook authorities here", (Profile.REMOTE,)),
    Value("controlPlane.home", "", "id of the cluster that it runs in", (Profile.EXTERNAL,)),
    Value("configCluster", "false", "whether an external control plane takes its configuration from here", (Profile.REMOTE,)),
    Value("gatewaySecrets", "true", "whether the control plane may read Secrets of all namespaces: gateways' certificates are there", _WORKLOADS),
    Value("globalNames.suffix", "", "the end of global names (ENV.IDENTITY.SUFFIX) that Deployments with the label identity get; empty: none"),
    Value("clusterSet.enabled", "false", "whether services leave a cluster only where a ServiceExport says so, and get names of clusterset.local"),
    Value("externalSigner", "", "who signs certificates (certificates.k8s.io; example.com/signer), instead of an authority here", (Profile.PRIMARY,)),
    Value("federation.enabled", "false", "whether other meshes may ask the control plane (15018), and enter at the network gateway (15444)"),
    Value("machines.enabled", "false", "whether machines outside every cluster register themselves: WorkloadEntries may be written", _WORKLOADS),
    Value("networkGateway.enabled", "", "whether there is one; if the network has a name", _WORKLOADS),
    Value("networkGateway.replicas", "", "how many; nobody else may scale what is said here", _WORKLOADS),
    Value("ingressGateway.enabled", "false", "whether there is one", _WORKLOADS),
    Value("injection.enabled", "true", "whether Pods get proxies", _WORKLOADS),
    Value("injection.byDefault", "false", "also in namespaces without labels", _WORKLOADS),
    Value("injection.native", "true", "proxies are init containers that go on running", _CONTROL_PLANE),
    Value("injection.url", "", "where the webhook is, as https://HOST:PORT; by default behind the Service", (Profile.REMOTE,)),
    Value("validation.enabled", "true", "whether objects are checked when they are written", _WORKLOADS),
    Value("validation.failurePolicy", "Ignore", "Ignore or Fail: what becomes of them while nobody can check", _WORKLOADS),
)  # fmt: skip
_BY_NAME = {value.name: value for value in VALUES}
_ENV = "env."
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_CLUSTER = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_SIGNER = re.compile(r"[a-z0-9][-a-z0-9.]*/[a-z0-9][-a-z0-9.]*")
_QUANTITY = re.compile(r"\d+(\.\d+)?(m|k|Ki|M|Mi|G|Gi)?")
_IMAGE_PART = re.compile(r"[\w.:/@-]+")
_HOST = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_CHOICES = {
    "validation.failurePolicy": ("Ignore", "Fail"),
    "controlPlane.exposed": ("", "gateway", "loadBalancer"),
    "crds": ("", "all", "remote"),
}
_BOOLEANS = frozenset(
    value.name for value in VALUES if value.default in ("true", "false") or value.name == "networkGateway.enabled"
)


@dataclass(frozen=True, slots=True)
class InstallSettings:
    """`values` has every name of `VALUES`; `environment` is the control plane's, beyond what it needs anyway."""

    profile: Profile
    values: Mapping[str, str]
    environment: tuple[tuple[str, str], ...] = ()

    def __getitem__(self, name: str) -> str:
        return self.values[name]

    def is_on(self, name: str) -> bool:
        return self.values[name] == "true"

    @property
    def has_control_plane(self) -> bool:
        return self.profile in _CONTROL_PLANE

    @property
    def has_network_gateway(self) -> bool:
        said = self.values["networkGateway.enabled"]
        return self.profile in _WORKLOADS and (said == "true" if said else bool(self.values["network"]))

    @property
    def tags(self) -> list[str]:
        return [tag for tag in self.values["tags"].split(",") if tag]

    @property
    def is_default(self) -> bool:
        return self.values["revision"] == DEFAULT_REVISION

    @property
    def service(self) -> str:
        """The control plane's, and its Deployment's name."""
        return service_of(self.values["revision"])

    @property
    def installation(self) -> str:
        """What everything that is installed together is known by."""
        return f"{self.values['namespace']}.{self.values['revision']}"

    def image(self, name: str) -> str:
        return f"{self.values['hub']}/{name}:{self.values['tag']}"

    @property
    def injection(self) -> InjectionSettings:
        """What a proxy of this cluster is told."""
        return InjectionSettings(
            cluster=self.values["cluster"],
            network=self.values["network"],
            mesh=self.values["mesh"],
            trust_domain=self.values["trustDomain"],
            system_namespace=self.values["namespace"],
            discovery_address=f"{self.service}.{self.values['namespace']}.svc:15012",
            image=self.image("proxy"),
            revision=self.values["revision"],
            native=self.is_on("injection.native"),
        )


def service_of(revision: str) -> str:
    """Of a revision or a tag, as Istio has it."""
    return "istiod" if revision == DEFAULT_REVISION else f"istiod-{revision}"


def install_settings(profile: Profile, said: Mapping[str, str]) -> InstallSettings:
    """Raises BadValue for the first value that cannot be used."""
    for name in said:
        if name.startswith(_ENV):
            continue
        if name not in _BY_NAME:
            raise BadValue(f"{name}: is not known; there is: {', '.join(_BY_NAME)}, {_ENV}NAME")
        profiles = _BY_NAME[name].profiles
        if profiles and profile not in profiles:
            raise BadValue(f"{name}: has no meaning for the profile {profile.value}")
    values = {value.name: said.get(value.name, value.default) for value in VALUES}
    environment = tuple(
        sorted((name.removeprefix(_ENV), value) for name, value in said.items() if name.startswith(_ENV))
    )
    found = InstallSettings(profile, values, environment)
    _check(found)
    return found


def _check(settings: InstallSettings) -> None:
    values = settings.values
    for name in _BOOLEANS:
        if values[name] not in ("true", "false") and not (values[name] == "" and _BY_NAME[name].default == ""):
            raise BadValue(f"{name}: {values[name]!r} is neither true nor false")
    for name, choices in _CHOICES.items():
        if values[name] not in choices:
            raise BadValue(f"{name}: {values[name]!r} is none of {', '.join(filter(None, choices))}")
    for name in ("namespace", "revision", *(["network"] if values["network"] else [])):
        _matches(_LABEL if name != "network" else _CLUSTER, name, values[name])
    for tag in settings.tags:
        _matches(_LABEL, "tags", tag)
        if tag == values["revision"]:
            raise BadValue(f"tags: {tag!r} is the revision's own name")
    if values["externalSigner"]:
        _matches(_SIGNER, "externalSigner", values["externalSigner"])
    for name in ("cluster", "mesh"):
        _matches(_CLUSTER, name, values[name])
    _matches(_HOST, "trustDomain", values["trustDomain"])
    for name in ("hub", "tag"):
        _matches(_IMAGE_PART, name, values[name])
    for name in ("controlPlane.cpu", "controlPlane.memory"):
        _matches(_QUANTITY, name, values[name])
    for name in ("controlPlane.replicas", "networkGateway.replicas"):
        if values[name] and not (values[name].isascii() and values[name].isdigit()):
            raise BadValue(f"{name}: {values[name]!r} is not a number")
    for name, _ in settings.environment:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise BadValue(f"{_ENV}{name}: {name!r} is not a variable's name")
    _check_profile(settings)


def _check_profile(settings: InstallSettings) -> None:
    values = settings.values
    if settings.profile is Profile.REMOTE:
        if not values["controlPlane.address"]:
            raise BadValue("controlPlane.address: say where the control plane is: an IP address, or a host name")
        if not is_ip(values["controlPlane.address"]):
            _matches(_HOST, "controlPlane.address", values["controlPlane.address"])
    if values["injection.url"] and not values["injection.url"].startswith("https://"):
        raise BadValue(f"injection.url: {values['injection.url']!r} is not https://HOST:PORT")
    if settings.profile is Profile.EXTERNAL and not values["controlPlane.home"]:
        raise BadValue(
            "controlPlane.home: say which id this cluster has; `cluster` is the one that it is configured from"
        )
    if values["controlPlane.exposed"] == "gateway" and not settings.has_network_gateway:
        raise BadValue("controlPlane.exposed: there is no network gateway: name the network, or use loadBalancer")


def is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def parsed(pairs: Iterable[str]) -> dict[str, str]:
    """From NAME=VALUE. Raises BadValue."""
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise BadValue(f"{pair!r} is not NAME=VALUE")
        found[name] = value
    return found


def _matches(pattern: re.Pattern[str], name: str, value: Any) -> None:
    if not pattern.fullmatch(value):
        raise BadValue(f"{name}: {value!r} is not a name that can be used here")
