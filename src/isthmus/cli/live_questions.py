"""Questions that a running control plane answers about a proxy that is connected to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from isthmus.cli.errors import BAD_USAGE, Failed
from isthmus.cli.forwarded_pages import pages_at
from isthmus.cli.running_mesh import asked, folder_of
from isthmus.localruntime.mesh_client import MeshClient

Object = dict[str, Any]


def asked_of_control_plane(question: str, client: str, parameters: Object, where: Object) -> Object:
    """`question` is the debug page's name. `where` has the options by which a client is found. Raises Failed."""
    for proxy, page in _connected(where):
        if _is(proxy, client) and where["in_cluster"] in ("", proxy["cluster_id"]):
            return dict(page(f"debug/{question}?" + urlencode({"proxyID": proxy["proxy"]} | parameters, doseq=True)))
    there = ", ".join(sorted({f"{proxy['proxy']} ({proxy['cluster_id']})" for proxy, _ in _connected(where)})) or "none"
    raise Failed(f"no proxy {client!r} is connected; there is: {there}", exit_code=BAD_USAGE)


def _is(proxy: Object, client: str) -> bool:
    """POD, POD.NAMESPACE, or the beginning of the Pod's name with or without the namespace."""
    name, _, namespace = proxy["proxy"].rpartition(".")
    asked_name, dot, asked_namespace = client.rpartition(".")
    if dot and asked_namespace == namespace:
        return bool(name == asked_name or name.startswith(f"{asked_name}-"))
    return bool(name == client or name.startswith(f"{client}-"))


def _connected(where: Object) -> list[tuple[Object, Callable[[str], Any]]]:
    """Every connected proxy, with the control plane that has it."""
    url = where["control_plane"]
    pages = [pages_at(url, "--control-plane")] if url else _pages_of_mesh(where["name"])
    return [(proxy, page) for page in pages for proxy in page("debug/syncz")]


def _pages_of_mesh(name: str) -> list[Callable[[str], Any]]:
    mesh = MeshClient(folder_of(name))
    clusters = asked(mesh.status)["clusters"]
    own = [entry["id"] for entry in clusters if entry["id"] in entry["controlPlanes"]]
    return [_page_of_cluster(mesh, cluster) for cluster in own]


def _page_of_cluster(mesh: MeshClient, cluster: str) -> Callable[[str], Any]:
    return lambda path: asked(lambda: mesh.control_plane(cluster, path))
