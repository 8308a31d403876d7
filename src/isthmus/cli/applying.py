"""Carries an installation out, over an API server: applies it, so that a second time changes nothing; takes it away, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from isthmus.installation.inventory import (
    LEFT,
    Entry,
    ObjectName,
    config_map,
    entries_of,
    inventory_name,
    read,
    together,
)
from isthmus.installation.manifests import INSTALLATION, MANAGER, SHARED, Installed
from isthmus.installation.settings import InstallSettings
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.errors import ApiError, ApiUnavailable, Conflict, KubernetesError, NotFound
from isthmus.kubernetes.reader_access import MANAGED_BY
from isthmus.kubernetes.resources import CONFIG_MAPS, DEPLOYMENTS, ResourcePath

Object = dict[str, Any]

_ESTABLISHED_SECONDS = 30.0
_PAUSE_SECONDS = 0.2
_SILENCES_MAX = 4

Answer = TypeVar("Answer")


class Done(StrEnum):
    """What became of an object."""

    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    DELETED = "deleted"
    KEPT = "kept"


@dataclass(frozen=True, slots=True)
class Outcome:
    name: ObjectName
    done: Done
    why: str = ""


class NotApplied(Exception):
    """An object that the API server did not take: which, what it said, and what to do."""


class Applier:
    """For one run. `dry_run`: the server is asked, and stores nothing."""

    def __init__(self, client: ApiClient, *, force: bool, dry_run: bool) -> None:
        self._client = client
        self._force = force
        self._dry_run = dry_run
        self._resources: dict[tuple[str, str], ResourcePath] = {}
        self._seen: dict[ObjectName, Object | None] = {}
        """What was there when this run began."""

    async def install(self, settings: InstallSettings, found: Sequence[Installed]) -> list[Outcome]:
        """Raises KubernetesError, NotApplied."""
        before = await self._inventory(settings["namespace"], settings["revision"])
        owned = {entry.name for entry in before if not entry.adopted}
        self._seen = {}
        adopted = [
            name for name in map(ObjectName.of, (each.body for each in found)) if await self._is_adopted(name, owned)
        ]
        now = entries_of(found, adopted)
        first = [each for each in found if each.body["kind"] == "Namespace" or each.definition]
        # The namespace and the inventory come first: from then on nothing that is made is forgotten.
        outcomes = [await self._applied(each, adopted) for each in first]
        noted = config_map(settings["namespace"], settings["revision"], together(now, before))
        kept = await self._apply(noted)
        outcomes += [await self._applied(each, adopted) for each in found if each not in first]
        left = [entry for entry in before if entry.name not in {each.name for each in now}]
        outcomes += await self._take_away(left, settings.installation, last=False, purge=False)
        if left:
            still = [entry for entry in left if (entry.shared or entry.definition) and not entry.adopted]
            self._seen.clear()
            kept = await self._apply(config_map(settings["namespace"], settings["revision"], together(now, still)))
        return [*outcomes, kept]

    async def uninstall(self, namespace: str, revision: str, *, purge: bool) -> list[Outcome]:
        """In the opposite order. Raises KubernetesError; NotApplied if there is no such installation."""
        entries = await self._inventory(namespace, revision)
        if not entries:
            others = ", ".join(sorted(await self._installations())) or "none"
            raise NotApplied(f"there is no installation {namespace}.{revision} here; there is: {others}")
        installation = f"{namespace}.{revision}"
        last = not await self._installations() - {installation}
        noted = ObjectName("v1", "ConfigMap", namespace, inventory_name(revision))
        left = [entry for entry in entries if last and self._outlives(entry) and not purge and not entry.adopted]
        # The namespace goes last of all, and with it whatever is still in it.
        around = [entry for entry in entries if entry.name.kind == "Namespace"]
        inside = [entry for entry in reversed(entries) if entry.name.kind != "Namespace"]
        outcomes = await self._take_away(inside, installation, last=last, purge=purge)
        if left:
            # So that they can be purged some day.
            await self._apply(config_map(namespace, revision, left, left=True))
            outcomes.append(Outcome(noted, Done.KEPT, "lists what is left"))
        else:
            outcomes.append(await self._delete(noted))
        return outcomes + await self._take_away(around, installation, last=last, purge=purge)

    async def until_rolled_out(self, settings: InstallSettings, seconds: float) -> list[str]:
        """Waits for the Deployments; those that have not rolled out in time."""
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            listed = await self._client.list_objects(
                DEPLOYMENTS, settings["namespace"], labelSelector=f"{INSTALLATION}={settings.installation}"
            )
            missing = [each["metadata"]["name"] for each in listed["items"] if not has_rolled_out(each)]
            if not missing or asyncio.get_running_loop().time() > deadline:
                return missing
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _applied(self, each: Installed, adopted: Sequence[ObjectName]) -> Outcome:
        body, name = each.body, ObjectName.of(each.body)
        if name in adopted:
            body = _without_marks(body)
        outcome = await self._apply(body)
        if each.definition and not self._dry_run:
            await self._until_established(name)
        return Outcome(name, outcome.done, "was there before" if name in adopted else outcome.why)

    async def _apply(self, body: Object) -> Outcome:
        name = ObjectName.of(body)
        try:
            there = self._seen[name] if name in self._seen else await self._find(name)
            resource = await self._resource(name)
            after = await answered(
                lambda: self._client.apply(resource, body, manager=MANAGER, force=self._force, dry_run=self._dry_run)
            )
        except Conflict as error:
            raise NotApplied(
                f"{name}: somebody else has said otherwise: {error.message}; --force-conflicts takes it over"
            ) from None
        except NotFound as error:
            if self._dry_run:
                return Outcome(name, Done.CREATED, "what it needs is not there yet")
            raise NotApplied(f"{name}: {error.message}") from None
        except ApiError as error:
            raise NotApplied(f"{name}: {error.message}") from None
        if there is None:
            return Outcome(name, Done.CREATED)
        same = _content(there) == _content(after)
        return Outcome(name, Done.UNCHANGED if same else Done.CHANGED)

    async def _take_away(
        self, entries: Sequence[Entry], installation: str, *, last: bool, purge: bool
    ) -> list[Outcome]:
        """`last`: no other installation is left that could share anything."""
        outcomes = []
        for entry in entries:
            why = self._kept(entry, last=last, purge=purge)
            there = None if why else await self._find(entry.name)
            if why:
                outcomes.append(Outcome(entry.name, Done.KEPT, why))
            elif there is not None and not _is_ours(there, installation):
                outcomes.append(Outcome(entry.name, Done.KEPT, "is somebody else's now"))
            elif there is not None:
                outcomes.append(await self._delete(entry.name))
        return outcomes

    def _kept(self, entry: Entry, *, last: bool, purge: bool) -> str:
        if entry.adopted:
            return "was there before"
        if entry.shared and not last:
            return "another installation may use it"
        if entry.definition and not purge:
            return "objects of its kind would go with it: --purge"
        if entry.name.kind == "Namespace" and not purge:
            return "whatever is in it would go with it: --purge"
        return ""

    def _outlives(self, entry: Entry) -> bool:
        return entry.definition or entry.name.kind == "Namespace"

    async def _delete(self, name: ObjectName) -> Outcome:
        if not self._dry_run:
            resource = await self._resource(name)
            try:
                await answered(lambda: self._client.delete(resource, name.name, name.namespace))
            except NotFound:
                return Outcome(name, Done.DELETED, "was gone already")
        return Outcome(name, Done.DELETED)

    async def _is_adopted(self, name: ObjectName, owned: set[ObjectName]) -> bool:
        there = self._seen[name] = await self._find(name)
        if name in owned:
            return False
        return there is not None and (there["metadata"].get("labels") or {}).get(MANAGED_BY) != MANAGER

    async def _inventory(self, namespace: str, revision: str) -> list[Entry]:
        there = await self._find(ObjectName("v1", "ConfigMap", namespace, inventory_name(revision)))
        return read(there) if there is not None else []

    async def _installations(self) -> set[str]:
        selector = f"{MANAGED_BY}={MANAGER},!{LEFT}"
        listed = await self._client.list_objects(CONFIG_MAPS, labelSelector=selector)
        return {str(each["metadata"]["labels"][INSTALLATION]) for each in listed["items"]}

    async def _find(self, name: ObjectName) -> Object | None:
        try:
            return await self._client.get(await self._resource(name), name.name, name.namespace)
        except NotFound:
            return None

    async def _resource(self, name: ObjectName) -> ResourcePath:
        key = (name.api_version, name.kind)
        if key not in self._resources:
            self._resources[key] = await self._client.resource_of(*key)
        return self._resources[key]

    async def _until_established(self, name: ObjectName) -> None:
        deadline = asyncio.get_running_loop().time() + _ESTABLISHED_SECONDS
        while True:
            there = await self._find(name)
            conditions = (there or {}).get("status", {}).get("conditions") or ()
            if any(each["type"] == "Established" and each["status"] == "True" for each in conditions):
                return
            if asyncio.get_running_loop().time() > deadline:
                raise KubernetesError(f"{name}: is not established after {_ESTABLISHED_SECONDS:.0f} s")
            await asyncio.sleep(_PAUSE_SECONDS)


async def answered(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """Asked again where no answer came: a server that has lost dozens of definitions at once is silent for a while, and to apply or delete twice is
    to do it once."""
    for _ in range(_SILENCES_MAX):
        with contextlib.suppress(ApiUnavailable):
            return await ask()
        await asyncio.sleep(_PAUSE_SECONDS)
    return await ask()


def _without_marks(body: Object) -> Object:
    """What is not ours is not marked as ours."""
    metadata = body["metadata"]
    labels = {
        key: value for key, value in (metadata.get("labels") or {}).items() if key not in (MANAGED_BY, INSTALLATION)
    }
    return body | {"metadata": {**metadata, "labels": labels}}


def _is_ours(there: Object, installation: str) -> bool:
    labels = there["metadata"].get("labels") or {}
    return labels.get(MANAGED_BY) == MANAGER and labels.get(INSTALLATION) in (installation, SHARED)


def _content(body: Object) -> Object:
    """Without what each write changes."""
    metadata = {
        key: value
        for key, value in body["metadata"].items()
        if key not in ("resourceVersion", "managedFields", "generation")
    }
    return body | {"metadata": metadata}


def has_rolled_out(deployment: Object) -> bool:
    """Whether what runs is what was applied, all of it and nothing older. An old Pod that still serves makes a Deployment available, too."""
    spec, status = deployment["spec"], deployment.get("status") or {}
    wanted, updated = spec.get("replicas", 1), status.get("updatedReplicas", 0)
    seen = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    serve = updated >= wanted and status.get("availableReplicas", 0) >= wanted
    return bool(seen and serve and status.get("replicas", 0) <= updated)
