"""Questions that a running control plane answers about a proxy that is connected to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from isthmus.cli.errors import BAD_USAGE, Failed
from isthmus.cli.forwarded_pages import pages_at
from isthmus.cli.running_mesh import asked, control_planes, folder_of, rows_of
from isthmus.localruntime.mesh_client import MeshClient

Object = dict[str, Any]


def asked_of_control_plane(question: str, client: str, parameters: Object, where: Object) -> Object:
    """`question` is the debug page's name. `where` has the options by which a client is found. Raises Failed."""
    connected = _connected(where)
    for proxy, page in connected:
        if _is(proxy, client) and where["in_cluster"] in ("", proxy["cluster_id"]):
            return dict(page(f"debug/{question}?" + urlencode({"proxyID": proxy["proxy"]} | parameters, doseq=True)))
    there = ", ".join(sorted({f"{proxy['proxy']} ({proxy['cluster_id']})" for proxy, _ in connected})) or "none"
    raise Failed(f"no proxy {client!r} is connected; there is: {there}", exit_code=BAD_USAGE)


def _is(proxy: Object, client: str) -> bool:
    """POD, POD.NAMESPACE, or the beginning of the Pod's name with or without the namespace."""
    name, _, namespace = proxy["proxy"].rpartition(".")
    asked_name, dot, asked_namespace = client.rpartition(".")
    if dot and asked_namespace == namespace:
        return bool(name == asked_name or name.startswith(f"{asked_name}-"))
    return bool(name == client or name.startswith(f"{client}-"))


def _connected(where: Object) -> list[tuple[Object, Callable[[str], Any]]]:
    """Every connected proxy, with the control plane that has it: one of several replicas, revisions or clusters."""
    if url := where["control_plane"]:
        page = pages_at(url, "--control-plane")
        return [(proxy, page) for proxy in page("debug/syncz")]
    mesh = MeshClient(folder_of(where["name"]))
    return [
        (proxy, _page_of(mesh, cluster, pod))
        for cluster, pod in control_planes(mesh)
        for proxy in rows_of(mesh, cluster, pod, "debug/syncz")
    ]


def _page_of(mesh: MeshClient, cluster: str, pod: str) -> Callable[[str], Any]:
    return lambda path: asked(lambda: mesh.control_plane(cluster, path, pod))
