"""The API server process: opens the database, makes what every cluster has, and serves until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import ssl
import sys
from pathlib import Path
from typing import Any

import msgspec
import structlog
import uvloop
from aiohttp import web

from isthmus.apiserver import names
from isthmus.apiserver.access import Access
from isthmus.apiserver.aggregation import aggregate
from isthmus.apiserver.audit import AuditLog
from isthmus.apiserver.connections import Connections
from isthmus.apiserver.credentials import Credentials, load_or_create
from isthmus.apiserver.default_roles import default_roles
from isthmus.apiserver.escalation import Escalation
from isthmus.apiserver.housekeeping import Housekeeping
from isthmus.apiserver.kinds import Kinds
from isthmus.apiserver.objects import Objects
from isthmus.apiserver.persistence import Persistence, StorageFailed
from isthmus.apiserver.server import ApiServer
from isthmus.apiserver.settings import ApiServerSettings
from isthmus.apiserver.signing_requests import Signers
from isthmus.apiserver.status import Refused
from isthmus.apiserver.store import Store
from isthmus.apiserver.tokens import Tokens

_BACKLOG = 4096
_STOP_SECONDS = 1.0
_GARBAGE_THRESHOLDS = (50_000, 20, 20)
"""Objects are kept, not thrown away: looking for cycles among them after every 700 took a tenth of a write."""
_NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")

log = structlog.get_logger()


def main(settings_path: str) -> int:
    """Runs until SIGTERM. The exit code is 1 if it cannot serve."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        settings = _settings(Path(settings_path))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings))
    except (OSError, ValueError, StorageFailed) as error:
        sys.stderr.write(f"isthmus apiserver: {error}\n")
        return 1
    return 0


def _settings(path: Path) -> ApiServerSettings:
    """Raises OSError, ValueError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=ApiServerSettings)
    except msgspec.MsgspecError as error:
        raise ValueError(f"{path}: {error}") from None


async def serve(settings: ApiServerSettings) -> None:
    """Until SIGTERM or SIGINT. Raises ValueError for what cannot be listened on, StorageFailed once the disk refuses a write."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    listeners = _sockets(settings)
    directory = Path(settings.directory)
    credentials = load_or_create(directory, settings.cluster_id, settings.tls_names)
    persistence = Persistence(directory / "objects.db")
    store = Store(persistence.first_version)
    kinds = Kinds()
    tokens = Tokens(credentials.signing_key)
    access = Access(store, tokens, credentials.admin_token)
    grants = (Escalation(access).check, Signers(access).check)
    objects = Objects(store, kinds, persistence, settings.service_cidr, grants)
    persistence.start(on_failure=stop.set)
    housekeeping = Housekeeping(objects, tokens, credentials.ca_pem)
    housekeeping.begin()
    await _begin(objects, settings)
    await aggregate(objects)
    trail = AuditLog(directory)
    server = ApiServer(objects, kinds, access, tokens, trail)
    http = server.http()
    runner = web.ServerRunner(http, shutdown_timeout=_STOP_SECONDS)
    await runner.setup()
    connections = Connections(http, _tls(credentials), settings.limits)
    async with asyncio.TaskGroup() as group:
        tidying = group.create_task(housekeeping.run(), name="housekeeping")
        accepting = group.create_task(connections.serve(listeners), name="accept")
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GARBAGE_THRESHOLDS)
        log.info("serving", cluster=settings.cluster_id, bind=settings.bind)
        await stop.wait()
        accepting.cancel()
        tidying.cancel()
    server.watches.close()
    await runner.cleanup()
    trail.close()
    await objects.close()
    persistence.close()
    if persistence.failure is not None:
        raise persistence.failure


def _sockets(settings: ApiServerSettings) -> list[socket.socket]:
    """Raises ValueError for what cannot be listened on."""
    found = [socket.socket(fileno=descriptor) for descriptor in settings.inherited_fds]
    found += [_bound(address) for address in settings.bind]
    if not found:
        raise ValueError("bind: name at least one HOST:PORT to listen on")
    for listener in found:
        listener.setblocking(False)
        listener.listen(_BACKLOG)
    return found


def _bound(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f"bind: {address!r} is not HOST:PORT")
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, int(port)))
    except (OSError, OverflowError) as error:
        listener.close()
        raise ValueError(f"bind: {address} cannot be listened on: {error}") from None
    return listener


def _tls(credentials: Credentials) -> ssl.SSLContext:
    """Client certificates are optional, and count if our authority signed them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(credentials.serving_file)
    context.load_verify_locations(credentials.ca_file)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


async def _begin(objects: Objects, settings: ApiServerSettings) -> None:
    """What every cluster has from its first moment on."""
    for name in _NAMESPACES:
        await _ensure(objects, "v1", "Namespace", {"metadata": {"name": name}}, "")
    for role in default_roles():
        await _ensure(objects, role["apiVersion"], role["kind"], role, "")
        await _complete_role(objects, role)
    if settings.api_address:
        await _kubernetes_service(objects, settings)


async def _complete_role(objects: Objects, wanted: dict[str, Any]) -> None:
    """A database from an older version has older roles: rules are added, and what people took away by hand is theirs if they say so."""
    kind = objects.kinds.by_name(wanted["apiVersion"], wanted["kind"])
    assert kind is not None, "a built-in kind"
    stored = objects.store.get(kind, ("", wanted["metadata"]["name"])).obj
    if (stored["metadata"].get("annotations") or {}).get("rbac.authorization.kubernetes.io/autoupdate") == "false":
        return
    missing = [rule for rule in wanted.get("rules", ()) if rule not in (stored.get("rules") or ())]
    if not missing and stored.get("aggregationRule") == wanted.get("aggregationRule"):
        return
    labels = (stored["metadata"].get("labels") or {}) | wanted["metadata"]["labels"]
    completed = stored | {"metadata": stored["metadata"] | {"labels": labels}}
    if "aggregationRule" in wanted:
        completed["aggregationRule"] = wanted["aggregationRule"]
    if missing:
        completed["rules"] = [*(stored.get("rules") or ()), *missing]
    await objects.replace(kind, completed)


async def _kubernetes_service(objects: Objects, settings: ApiServerSettings) -> None:
    """The Service by which Pods find this server."""
    host, _, port = settings.api_address.rpartition(":")
    first = settings.service_cidr.partition("/")[0].rpartition(".")[0] + ".1"
    service = {
        "metadata": {"name": "kubernetes", "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {"clusterIP": first, "ports": [{"name": "https", "port": 443, "targetPort": int(port)}]},
    }
    await _ensure(objects, "v1", "Service", service, "default")
    if any(names.endpoint_address(host)):
        return  # Nobody else would find it there.
    slice_ = {
        "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": "IPv4",
        "ports": [{"name": "https", "port": int(port), "protocol": "TCP"}],
        "endpoints": [{"addresses": [host], "conditions": {"ready": True}}],
    }
    await _ensure(objects, "discovery.k8s.io/v1", "EndpointSlice", slice_, "default")


async def _ensure(objects: Objects, api_version: str, kind_name: str, obj: dict[str, Any], namespace: str) -> None:
    kind = objects.kinds.by_name(api_version, kind_name)
    assert kind is not None, "a built-in kind"
    try:
        await objects.create(kind, obj, namespace)
    except Refused as refusal:
        if refusal.reason != "AlreadyExists":
            raise
