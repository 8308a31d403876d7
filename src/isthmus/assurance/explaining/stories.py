"""The answers as people read them. Only words: everything that is told here is in the answer already."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Object = dict[str, Any]
_SOMEBODY = "somebody"


def told_why(answer: Object) -> Iterator[str]:
    """`isthmus why`, line by line."""
    client = answer["client"]
    yield f"{client['pod']} in {client['cluster']} is {client['identity'] or 'without an identity'}."
    if answer["verdict"] in ("hidden", "not shared"):
        yield f"{answer['verdict'].capitalize()}: {answer['says']}."
        yield f"To change it, {answer['edit']}."
        return
    yield from _dns(answer["dns"])
    request, service = answer["request"], answer.get("service")
    target = _target(service) if service else f"{request['host']}, which is no service"
    where = ", ".join(service["declaredIn"]) if service else ""
    yield f"It asks {target} on port {request['port']}{', declared in ' if where else ''}{where}."
    yield from _way(answer["way"])
    yield from _policies(answer["policies"])
    yield f"So: {answer['verdict']}. {_sentence(answer['says'])}"


def _target(service: Object) -> str:
    """With its host, where the object is not called as the host is."""
    named = f"{service['kind']} {'/'.join(filter(None, (service['namespace'], service['name'])))}"
    return f"{named} ({service['host']})" if service["kind"] in ("ServiceEntry", "ServiceImport", "MeshPeer") else named


def told_why_not(answer: Object) -> Iterator[str]:
    """`isthmus why-not`, line by line."""
    client = answer["client"]
    yield f"Asked by {client['pod']} in {client['cluster']}."
    for each in answer["answers"]:
        yield f"{_asked_about(each)}: {each['verdict']}."
        if each["verdict"] == "given":
            yield f"  It takes requests: {each['way']}, priority {each['priority']}, weight {each['weight']}."
            continue
        if each.get("rule"):
            yield f"  Because of {each['rule']}:"
        yield f"  {_sentence(each['detail'])}"
        yield f"  To change it, {each['edit']}."


def _asked_about(answer: Object) -> str:
    """A workload of another mesh has no name here but its service's."""
    if not answer.get("address"):
        return str(answer["host"])
    return f"{_endpoint(answer)}, for {answer['service']}"


def told_explain(answer: Object) -> Iterator[str]:
    """`isthmus explain`, line by line."""
    request = answer["request"]
    what = f"{request.get('method', 'bytes')} {request.get('host', '')}{request.get('path', '')}"
    yield f"{what} to {request.get('address', '')}:{request['port']}, {request['direction']}, TLS: {request['tls']}"
    yield from _way(answer)
    for each in answer["policies"]:
        yield f"policy    {each['filter'].rpartition('.')[2]}: {each['verdict']}, {each['says']}"
    yield f"So: {answer['outcome']}. {_sentence(answer['says'])}"


def told_name(answer: Object) -> Iterator[str]:
    """`isthmus dns explain`, line by line."""
    client, resolver = answer["client"], answer["resolver"]
    first = "its proxy first (DNS capture), then " if answer["captured"] else ""
    yield f"{client['pod']} in {client['cluster']} asks {first}the DNS of its cluster."
    yield f"Its resolver has ndots {resolver['ndots']}, and search domains {', '.join(resolver['search']) or 'none'}."
    for number, step in enumerate(answer["steps"], 1):
        yield f"{number}  {step['name']}  ({step['why']})"
        for each in step["asked"]:
            yield f"     {each['by']}: {', '.join(each['addresses']) or each['result']}, {each['says']}"
            if each.get("edit"):
                yield f"       to change it, {each['edit']}"
    yield f"So: {answer['verdict']}. {_sentence(answer['says'])}"


def _dns(dns: Object) -> Iterator[str]:
    if dns["addresses"]:
        yield f"{dns['host']} resolves to {', '.join(dns['addresses'])}, says {dns['by']}."
        return
    yield f"{dns['host']} has no address, says {dns['by']}" + (f": {dns['detail']}." if dns.get("detail") else ".")
    if dns.get("edit"):
        yield f"  To change it, {dns['edit']}."


def _way(way: Object) -> Iterator[str]:
    for key, word in (
        ("listener", "listener"),
        ("filterChain", "chain"),
        ("virtualHost", "host"),
        ("route", "route"),
    ):
        part = way.get(key)
        if part:
            shown = " ".join(filter(None, (part["name"], f"({part['match']})" if part.get("match") else "")))
            yield f"{word:9} {shown or '-'}" + (f", from {part['origin']}" if part.get("origin") else "")
            for fault in part.get("faults", ()):
                yield f"          {fault}"
    for upstream in way["upstreams"]:
        yield from _upstream(upstream)


def _upstream(upstream: Object) -> Iterator[str]:
    share = "" if upstream["percent"] == 100 else f"{upstream['percent']:g} % to "
    yield f"upstream  {share}{upstream['cluster']}" + (f", as {upstream['rule']} says" if upstream.get("rule") else "")
    if upstream["type"] == "ORIGINAL_DST":
        yield "          the address that the application chose"
    for each in upstream["destinations"]:
        yield "          " + _destination(each)
        for behind in each.get("standsFor", ()):
            yield f"              {_endpoint(behind)}"
    for left in upstream["leftOut"]:
        yield f"          left out: {_endpoint(left)}: {left['detail']} ({left['reason']})"
        yield f"              to change it, {left['edit']}"


def _destination(each: Object) -> str:
    said = [f"{each['percent']:g} %", each["address"], each.get("way", "")]
    said.append(f"priority {each['priority']}")
    if each.get("arithmetic"):
        said.append(each["arithmetic"])
    if each.get("startsTLS"):
        said.append(f"TLS for {each['startsTLS']}")
    elif "mutualTLS" in each:
        as_sent = "the client's own TLS" if each.get("passesTLS") else "plaintext"
        said.append("mutual TLS" if each["mutualTLS"] else as_sent)
    if each["locality"]:
        said.append(each["locality"])
    if not each["healthy"]:
        said.append("not healthy")
    return ", ".join(filter(None, said))


def _endpoint(each: Object) -> str:
    """Behind an address that is not a workload's there is nobody to name, and of another mesh's workloads nobody says even that."""
    who = " ".join(filter(None, (each["workload"], each["address"])))
    return f"{who or _SOMEBODY} in {each['cluster']}"


def _workload(each: Object) -> str:
    return f"{each['workload'] or each['address'] or _SOMEBODY} in {each['cluster']}"


def _policies(policies: list[Object]) -> Iterator[str]:
    for each in policies:
        who = ", ".join(dict.fromkeys(map(_workload, each["workloads"])))
        rule = f", {each['mutualTLSRule']}" if each.get("mutualTLSRule") else ""
        mode = f" (mutual TLS {each['mutualTLS']}{rule})" if each.get("mutualTLS") else ""
        yield f"{each['verdict']:9} by {who}{mode}: {each['says']}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
