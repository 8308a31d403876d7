"""Authorities that Gateway API's objects name: who vouches for callers of a listener, or for a backend."""

from __future__ import annotations

from isthmus.api import core
from isthmus.api import gateway_api as api
from isthmus.ingest.gateway_api.certificates import problem_with_pem
from isthmus.ingest.gateway_api.objects import Objects


def authorities_in(
    reference: api.ObjectReference | api.LocalReference, namespace: str, objects: Objects
) -> tuple[str, str]:
    """No reason and the PEM text of a ConfigMap, empty if nobody has said which there are; or the reason why there is none, and a sentence."""
    written = f"{reference.kind} {namespace}/{reference.name}"
    if (reference.group, reference.kind) != ("", "ConfigMap"):
        return "InvalidKind", f"{written}: authorities are read from a ConfigMap, under ca.crt"
    if objects.config_maps is None:
        return "", ""
    found = objects.config_maps.get((namespace, reference.name))
    if found is None:
        return "InvalidCACertificateRef", f"there is no {written}"
    text = found.data.certificates if isinstance(found, core.AuthorityBundle) else found.data.get("ca.crt", "")
    problem = problem_with_pem(text.encode())
    return ("InvalidCACertificateRef", f"{written}: {problem}") if problem else ("", text)
