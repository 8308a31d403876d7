"""Each file in transcripts/ is a mesh and what its clients are to know. ISTHMUS_REWRITE=1 writes them anew: read every changed line."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from isthmus.discovery.view import outbound_view
from isthmus.model.topology import Standing

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_what_clients_know(path, words):
    seen = played(path.read_text(), words)

    if os.environ.get("ISTHMUS_REWRITE"):
        path.write_text("\n".join(seen) + "\n")
    assert [line.split() for line in seen] == [line.split() for line in path.read_text().splitlines()]


def played(text, words) -> list[str]:
    """The file as it would be if it told the truth."""
    mesh = words.Mesh()
    seen: list[str] = []
    for line in text.splitlines():
        match line.split():
            case ["gateway", *where]:
                mesh.gateways.append(words.gateway(*where))
            case ["endpoint", *what]:
                mesh.endpoints.append(words.endpoint(*what))
            case ["cluster", name, standing]:
                mesh.standings[name] = Standing(standing)
            case ["service", "cluster-local"]:
                mesh.cluster_local = True
            case ["from", *who]:
                known = words.transcript(mesh.upstream(words.scope(*who)))
                seen += [line, *(f"  {one}" for one in known)]
                continue
        if not line.startswith("  "):
            seen.append(line)
    return seen


@pytest.mark.parametrize(
    ("export_to", "namespace", "known"),
    [
        ((), "other", True),
        (("*",), "other", True),
        ((".",), "ns", True),
        ((".",), "other", False),
        (("other",), "other", True),
        (("~",), "ns", False),
    ],
)
def test_who_knows_of_a_service(words, export_to, namespace, known):
    snapshot = words.Mesh().snapshot()
    [(key, service)] = snapshot.services.items()
    exported = replace(snapshot, services={key: replace(service, export_to=export_to)})
    who = replace(words.scope("n1", "c1"), namespace=namespace)

    view = outbound_view(who, exported)

    assert bool(view.upstreams) is bool(view.names) is known
