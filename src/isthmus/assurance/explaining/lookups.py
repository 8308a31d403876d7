"""A name as a client's resolver looks it up: which full names it tries, who answers each, with what, and why.

Nothing is decided here. The names come from the resolver's rules, each answer from the DNS proxy's own function over the very table that the
client's proxy has, or over what the cluster's own DNS knows; the reasons from the functions that put addresses into these tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from isthmus.assurance.explaining.asked import Asked, BadQuestion, client_of
from isthmus.discovery.headless import as_called, is_near
from isthmus.discovery.naming import Source, addresses, names_of_cluster
from isthmus.discovery.sight import unseen
from isthmus.dns.answers import Known, NameTable, Verdict, answer, encoded
from isthmus.dns.query import question, read_reply
from isthmus.dns.resolver import Resolver, Tried, tried
from isthmus.model.names import ClusterId, Hostname
from isthmus.model.services import Service
from isthmus.model.values import dataclass

Object = dict[str, Any]

RESOLVED, NO_DATA, NO_SUCH_NAME, ASKED_FURTHER = "resolved", "no data", "no such name", "asked further"
NOT_KNOWN = "passed on"
"""What a proxy does with a name that it does not have: it asks the name servers behind it."""

_PROXY = "the proxy"


def resolver_for(asked: Asked, search: tuple[str, ...], ndots: int | None) -> Resolver:
    """Kubernetes' own for the client's namespace, but for what is said otherwise."""
    usual = Resolver.of_pods(asked.proxy.scope.namespace, asked.snapshot.settings.dns_domain)
    return Resolver(search or usual.search, usual.ndots if ndots is None else ndots)


def explain_name(asked: Asked, name: str, kind: str, rules: Resolver) -> Object:
    """`kind` is A or AAAA. Raises BadQuestion for what is no host name."""
    servers = Servers.of(asked, rules)
    steps: list[Object] = []
    for each in tried(name, rules):
        steps.append(servers.step(each, kind))
        if steps[-1]["result"] in (RESOLVED, ASKED_FURTHER):
            break
    last = steps[-1]
    result = last["result"] if last["result"] != NO_SUCH_NAME else _best(steps)
    return client_of(asked) | {
        "name": name,
        "type": kind,
        "resolver": {"search": list(rules.search), "ndots": rules.ndots},
        "captured": servers.proxy is not None,
        "steps": steps,
        "verdict": result,
        "addresses": last["asked"][-1]["addresses"],
        "says": _conclusion(kind, last, result),
    }


@dataclass(frozen=True, slots=True)
class Servers:
    """Who answers the client: its proxy, if that captures its questions, then the DNS of its cluster."""

    asked: Asked
    proxy: NameTable | None
    cluster: NameTable

    @staticmethod
    def of(asked: Asked, rules: Resolver) -> Servers:
        scope, settings = asked.proxy.scope, asked.snapshot.settings
        own = NameTable.prepare(
            names_of_cluster(scope.cluster, asked.snapshot), namespace="", dns_domain=settings.dns_domain
        )
        if not asked.proxy.dns_capture:
            return Servers(asked, None, own)
        table = NameTable.prepare(
            asked.view.outbound.names,
            namespace=scope.namespace,
            dns_domain=settings.dns_domain,
            search_domains=rules.search,
        )
        return Servers(asked, table, own)

    def step(self, name: Tried, kind: str) -> Object:
        """One full name: everybody who is asked for it, and what comes of that."""
        steps = list(self._answers(name.name, kind))
        return {"name": name.name, "why": name.why, "asked": steps, "result": steps[-1]["result"]}

    def _answers(self, name: str, kind: str) -> Iterator[Object]:
        if self.proxy is not None:
            found = _asked_of(self.proxy, name, kind)
            yield {"by": _PROXY} | (found or _nothing(NOT_KNOWN)) | self._of_proxy(name, self.proxy, kind)
            if found:
                return
        by = {"by": f"the DNS of cluster {self.asked.proxy.cluster}"}
        found = _asked_of(self.cluster, name, kind)
        domain = self.asked.snapshot.settings.dns_domain
        if found:
            service = self._service(name)
            yield by | found | {"says": f"{_object(service) if service else name} is declared there"}
        elif name == domain or name.endswith(f".{domain}"):
            yield by | _nothing(NO_SUCH_NAME) | self._unknown_to_cluster(name)
        elif "." not in name:
            yield by | _nothing(NO_SUCH_NAME) | {"says": "no name server has names of one label"}
        else:
            yield by | _nothing(ASKED_FURTHER) | {"says": "only the wide world's DNS may know it"}

    def _of_proxy(self, name: str, table: NameTable, kind: str) -> Object:
        """Why the proxy's table has these addresses, or none."""
        known = table.find(encoded(name))
        service = self._service(known.record.host if known else name)
        if known is None:
            return self._absent(service, name)
        said = _spelling(name, known) + (self._source(service, known) if service else "")
        if not (known.a if kind == "A" else known.aaaa):
            family = 4 if kind == "A" else 6
            return {"says": f"{said}; it has no IPv{family} address here", "record": known.record.host}
        return {"says": said, "record": known.record.host} | ({"object": _object(service)} if service else {})

    def _source(self, service: Service, known: Known) -> str:
        scope = self.asked.view.outbound.scope
        service = as_called(scope, service)
        if service.headless:
            if known.record.host != service.hostname:
                return f"a Pod of headless {_object(service)} on the client's network"
            return f"{_object(service)} is headless: its Pods on the client's network that are ready, its own cluster's first"
        _, source = addresses(scope, service)
        if source is Source.OWN_CLUSTER:
            return f"the address that cluster {scope.cluster} has for {_object(service)}"
        if source is Source.MESH and service.near_in is not None:
            what = "it is a Pod" if service.pod_of else "all of its Pods are"
            return f"an address of the mesh for {_object(service)}: {what} on another network"
        if source is Source.MESH:
            why = "it says none itself"
            if service.is_second_name:
                why = "no cluster has one for it"
            elif service.registry == "Kubernetes":
                why = f"{scope.cluster} does not declare it, and another cluster's address may be somebody else's here"
            return f"an address of the mesh for {_object(service)}: {why}"
        return f"the address that another cluster has for {_object(service)}: it has none of the client's own"

    def _absent(self, service: Service | None, name: str) -> Object:
        if service is None:
            return {"says": "no service that it sees has this name"}
        scope = self.asked.view.outbound.scope
        hidden = unseen(scope, service, self.asked.snapshot)
        if hidden:
            says = f"{_object(service)} is hidden from {scope.namespace}: {hidden.detail}"
            return {"says": says, "rule": str(hidden.rule), "edit": hidden.edit}
        if service.headless:
            return {"says": f"{_pods(service, name)} on the client's network is ready"}
        return {"says": f"{_object(service)} has no address here"}

    def _unknown_to_cluster(self, name: str) -> Object:
        cluster = self.asked.proxy.cluster
        service = self._service(name)
        if service is None or service.kind != "Service" or not service.declared_in:
            return {"says": f"no Service of {cluster} has this name"}
        if cluster in service.declared_in:
            return {"says": f"{_pods(service, name)} in {cluster} is ready"}
        return {
            "says": f"{cluster} does not declare {_object(service)}: {', '.join(service.declared_in)} does",
            "edit": _edit(cluster, captured=self.proxy is not None),
        }

    def _service(self, host: str) -> Service | None:
        """Whose name it is, or of which headless service it is the name of a Pod that the client calls by its own address."""
        snapshot, scope = self.asked.snapshot, self.asked.view.outbound.scope
        own = snapshot.keys_by_host.get(Hostname(host), ())
        around = snapshot.keys_by_host.get(Hostname(host.partition(".")[2]), ())
        keys = own or tuple(key for key in around if snapshot.services[key].headless)
        if not keys:
            return None
        service = snapshot.services[keys[0]]
        return snapshot.services[service.pod_of] if service.pod_of and is_near(scope, service) else service


def _edit(cluster: ClusterId, *, captured: bool) -> str:
    """What would make a name resolve that another cluster alone declares."""
    declare = f"declare the Service in {cluster}, too"
    return declare if captured else f"run the client with ISTIO_META_DNS_CAPTURE=true, or {declare}"


def _asked_of(table: NameTable, name: str, kind: str) -> Object | None:
    """What a server with this table answers; None for what it does not know."""
    try:
        packet = question(name, kind)
    except ValueError as error:
        raise BadQuestion(str(error)) from None
    reply = answer(packet, table, over_udp=False)
    if isinstance(reply, Verdict):
        return None
    said = read_reply(reply)
    found = [each["data"] for each in said["answers"] if each["type"] == kind]
    return {
        "rcode": said["rcode"],
        "answers": said["answers"],
        "addresses": found,
        "result": RESOLVED if found else NO_DATA,
    }


def _nothing(result: str) -> Object:
    return {"rcode": "NXDOMAIN" if result == NO_SUCH_NAME else "", "answers": [], "addresses": [], "result": result}


def _spelling(name: str, known: Known) -> str:
    """How the name that was asked for comes to mean the record's."""
    host = known.record.host
    if known.alias_of:
        return f"a spelling with a search domain, answered with the real name {host}: "
    if host.startswith("*"):
        return f"it is covered by {host}: "
    return "" if name == host else f"short for {host}: "


def _object(service: Service) -> str:
    return str(service.origin)


def _pods(service: Service, name: str) -> str:
    """Of a headless service: those that the name means."""
    meant = "none of its Pods" if name == service.hostname else f"no Pod {name.partition('.')[0]} of it"
    return f"{_object(service)} is headless, and {meant}"


def _best(steps: list[Object]) -> str:
    """A resolver remembers that a name was there without such an address (RFC 2308: no data is not NXDOMAIN)."""
    return NO_DATA if any(each["result"] == NO_DATA for each in steps) else NO_SUCH_NAME


def _conclusion(kind: str, last: Object, result: str) -> str:
    final = last["asked"][-1]
    if result == RESOLVED:
        return f"it is {', '.join(final['addresses'])}, says {final['by']}"
    if result == ASKED_FURTHER:
        return f"no cluster of the mesh has {last['name']}, and {final['by']} asks the wide world's"
    what = "the name is there, without such an address" if result == NO_DATA else "nobody knows the name"
    return f"it has no {kind} record: {what}"
