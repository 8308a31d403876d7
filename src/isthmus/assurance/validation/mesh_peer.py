"""What a MeshPeer means beyond its shape: what reading it makes of it, whichever mesh it is for."""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.api.federation import MeshPeer
from isthmus.api.registry import KINDS, decode
from isthmus.assurance.catalogue import validation as codes
from isthmus.assurance.validation.problems import Problem
from isthmus.assurance.validation.shapes import PORT, WORDS, many, record, text
from isthmus.assurance.validation.terms import Object
from isthmus.ingest.mesh_peers import mesh_peer_of
from isthmus.model.identity import TrustDomain
from isthmus.model.names import ClusterId, MeshId
from isthmus.model.snapshot import MeshSettings

_SERVICE = {"namespace": text(), "name": text()}
MESH_PEER = record({
    "mesh": text(), "trustDomain": text(), "controlPlanes": WORDS, "identity": text(),
    "gateways": many(record({"address": text(), "port": PORT, "network": text()}, ("address",))),
    "exports": record({
        "services": many(record({**_SERVICE, "callers": WORDS}, ("namespace", "name", "callers"))), "identities": WORDS,
    }),
    "imports": record({"services": many(record({**_SERVICE, "to": WORDS}, ("namespace", "name", "to")))}),
}, ("mesh", "trustDomain"))  # fmt: skip

_ANY_MESH = MeshSettings(mesh=MeshId(""), trust_domain=TrustDomain(""))
_CODES = {"spec.trustDomain": codes.BAD_TRUST_DOMAIN, "spec.mesh": codes.NOT_A_NAME}


def mesh_peer(item: Object) -> Iterator[Problem]:
    obj = decode(KINDS["MeshPeer"], item)
    assert isinstance(obj, MeshPeer), "the kind's own type"
    for issue in mesh_peer_of(obj, ClusterId(""), _ANY_MESH)[1]:
        yield Problem(_CODES.get(issue.field, codes.MALFORMED), issue.field, issue.what, issue.fix)
