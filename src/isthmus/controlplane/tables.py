"""Tables: what each scope's proxies, and each proxy alone, are given; changed in place as derivations change.

A table is shared by all proxies of its scope, and a change costs its own names, not the table. Whoever tells proxies takes the changed names, by
type, and looks up what is there now: the newest state, however many changes led to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from isthmus.controlplane.derivations import Derivations
from isthmus.controlplane.derived import Block, Shelf
from isthmus.controlplane.stocks import EMPTY, Stocks
from isthmus.envoy.compile import Typed
from isthmus.envoy.resources import (
    BUNDLES,
    CLUSTER,
    ENDPOINTS,
    EXTENSION,
    LISTENER,
    NAME_TABLE,
    OWN_TRUST,
    ROUTES,
    SECRET,
    Changes,
    Living,
    Resource,
    ResourceSet,
    versions_in,
)
from isthmus.incremental.shared import Shared
from isthmus.ingest.snapshot import Patch
from isthmus.model.snapshot import Snapshot
from isthmus.model.views import Proxy, Scope

TYPES = (CLUSTER, ENDPOINTS, EXTENSION, LISTENER, ROUTES, SECRET, NAME_TABLE, BUNDLES, OWN_TRUST)


class Table:
    """Resources by type and name, and which have changed since somebody asked, with the versions that they had then.

    What is put and dropped is there from the next `commit` on: nobody sees a table half changed.
    """

    def __init__(self) -> None:
        self.by_type: dict[str, dict[str, Resource]] = {type_url: {} for type_url in TYPES}
        self._coming: list[tuple[str, str, Resource | None]] = []
        self._changed: Changes = {}

    def put(self, type_url: str, resource: Resource) -> None:
        """The resource is this from now on."""
        self._coming.append((type_url, resource.name, resource))

    def drop(self, type_url: str, name: str) -> None:
        """There is none of this name any longer."""
        self._coming.append((type_url, name, None))

    def commit(self) -> None:
        """Makes what was put and dropped visible."""
        found: dict[str, dict[str, str]] = {}
        for type_url, name, resource in self._coming:
            table = self.by_type[type_url]
            known = table.get(name)
            if (known.version if known else "") == (resource.version if resource else ""):
                continue
            if resource is None:
                del table[name]
            else:
                table[name] = resource
            version = known.version if known else self._version_below(type_url, name)
            found.setdefault(type_url, {}).setdefault(name, version)
        self._coming = []
        self._has_changed(found)

    def _version_below(self, type_url: str, name: str) -> str:
        """Of a resource that is there while the table has none of this name; empty if there is none."""
        return ""

    def _has_changed(self, changes: Changes) -> None:
        self._changed = _both(changes, self._changed) if self._changed else changes

    def replace(self, old: Sequence[Typed], new: Sequence[Typed]) -> None:
        """What one derivation gave before, and gives now. Nearly all of it is the same objects."""
        before, after = {id(resource) for _, resource in old}, {id(resource) for _, resource in new}
        gone = {(type_url, resource.name) for type_url, resource in old if id(resource) not in after}
        for type_url, resource in new:
            if id(resource) not in before or (type_url, resource.name) in gone:
                gone.discard((type_url, resource.name))
                self.put(type_url, resource)
        for type_url, name in gone:
            self.drop(type_url, name)

    def take_changed(self) -> Changes:
        """What has changed since the last call. Nobody changes it any longer."""
        changed, self._changed = self._changed, {}
        return changed


class ScopeTable(Table):
    """One scope's: what follows from all of its hosts is its own, and before what each of them adds, which is in the stock."""

    def __init__(self, scope: Scope, derivations: Derivations, stocks: Stocks) -> None:
        super().__init__()
        self.scope = scope
        self.proxies: dict[Proxy, None] = {}
        self.stock = EMPTY
        self._derivations = derivations
        self._stocks = stocks
        self._blocks: tuple[Block, ...] = ()
        self._wanted: frozenset[Block] = frozenset()
        self._stocked: tuple[Block, ...] = ()
        """Of which the stock is."""
        self._fresh: dict[Block, Shelf] = {}
        """Shelves that are not in the stock yet."""
        self._frame: tuple[Typed, ...] = ()
        for each in self._observed:
            each.observe(None, scope)

    def end(self) -> None:
        """Observes nothing any longer."""
        self.want(())
        for each in self._observed:
            each.release(None, self.scope)

    @property
    def _observed(self) -> tuple[Shared[None, Scope, Any], ...]:
        derived = self._derivations
        return derived.frame, derived.hosts

    def want(self, blocks: tuple[Block, ...]) -> None:
        """These are the hosts that the scope sees."""
        before, after = self._wanted, frozenset(blocks)
        for block in blocks:
            if block not in before:
                self._derivations.shelf.observe(block, self.scope)
        for block in self._blocks:
            if block not in after:
                self._derivations.shelf.release(block, self.scope)
                self._fresh.pop(block, None)
        self._blocks, self._wanted = blocks, after

    def take_shelf(self, block: Block, shelf: Shelf) -> None:
        if block in self._wanted:
            self._fresh[block] = shelf

    def take_frame(self, found: tuple[Typed, ...]) -> None:
        self.replace(self._frame, found)
        self._frame = found

    def commit(self) -> None:
        if self._coming:
            super().commit()
        if not self._fresh and self._blocks is self._stocked:
            return
        self.stock, changes = self._stocks.step(self.stock, self._blocks, self._fresh)
        self._fresh, self._stocked = {}, self._blocks
        for kind, names in changes.items():
            mine = self.by_type[kind]
            if mine and not names.keys().isdisjoint(mine):
                changes = {**changes, kind: {name: had for name, had in names.items() if name not in mine}}
        self._has_changed(changes)

    def _version_below(self, type_url: str, name: str) -> str:
        found = self.stock.of_type(type_url).get(name)
        return found.version if found else ""

    def stock_versions(self, type_url: str) -> Mapping[str, str]:
        """Of everything in the stock, by name."""
        return self._stocks.versions(self.stock, type_url)

    def edition(self) -> object:
        """While it is the same object, so is the stock."""
        return self.stock

    @property
    def current(self) -> Changes:
        """The versions of everything."""
        return {kind: {**self.stock_versions(kind), **versions_in(self.by_type[kind])} for kind in TYPES}

    @property
    def told(self) -> Changes:
        """The versions of everything as of the last `take_changed`."""
        return _both(self.current, self._changed)


class Tables:
    """Every connected proxy's resources, kept current with the newest snapshot."""

    def __init__(self) -> None:
        self.derivations = Derivations()
        self._scopes: dict[Scope, ScopeTable] = {}
        self._own: dict[Proxy, Table] = {}
        self._unfinished: dict[ScopeTable, dict[Proxy, None]] = {}
        """Where something has still to be computed or committed, with those of whom that is their own."""
        self._finished: dict[ScopeTable, dict[Proxy, None]] = {}
        """The same since the last `changed`."""
        self._at: dict[Proxy, ScopeTable] = {}
        self._connected: Counter[Proxy] = Counter()
        self._moved: dict[Proxy, Changes] = {}
        """The versions that a proxy had before it came to another scope."""
        self._views: dict[Proxy, ResourceSet] = {}
        self._stocks = Stocks()

    @property
    def snapshot(self) -> Snapshot | None:
        """The newest snapshot; None before the first."""
        return self.derivations.record.newest

    @property
    def proxies(self) -> list[Proxy]:
        return list(self._connected)

    @property
    def scopes(self) -> int:
        """How many tables the connected proxies share."""
        return len(self._scopes)

    @property
    def stocks(self) -> int:
        """How many different ones the scopes have."""
        return len(self._stocks)

    def learn(self, snapshot: Snapshot, patch: Patch | None = None) -> None:
        """Makes this the newest snapshot. What it changes is computed by the next `settling`. `patch`: how it was made."""
        if patch is not None and patch.base is self.snapshot:
            self.derivations.record.set(snapshot, {"endpoints": patch.endpoints})
        else:
            self.derivations.record.set(snapshot)

    def connect(self, proxy: Proxy) -> None:
        """From now on this proxy's resources are wanted. Calls are counted: an agent asks for the same proxy as its Envoy."""
        self._connected[proxy] += 1
        if self._connected[proxy] == 1:
            self._own[proxy] = Table()
            self.derivations.scope.observe(proxy)
            self.derivations.own.observe(proxy)

    def disconnect(self, proxy: Proxy) -> None:
        """Ends one `connect`."""
        self._connected[proxy] -= 1
        if not self._connected[proxy]:
            del self._connected[proxy], self._own[proxy]
            self._moved.pop(proxy, None)
            self.derivations.own.release(proxy)
            self.derivations.scope.release(proxy)
            self._leave(proxy)

    def resources(self, proxy: Proxy) -> ResourceSet | None:
        """A connected proxy's resources as of the last settling: a living view, that later settlings change."""
        return self._views.get(proxy)

    def settling(self) -> Iterator[None]:
        """Computes what is due, piece by piece, so that a caller can let others run in between.

        First what scopes share, then scope by scope what is left. `changed` gives what is new for scopes that are finished, while others still
        settle. A newer snapshot may be learned in between: scopes that are not finished then go on with that.
        """
        self._apply()  # What was found by somebody who was cancelled before it was handed out.
        while True:
            while self._shared_is_due:
                for each in self._shared:
                    yield from each.settling()
                yield from self.derivations.graph.settling()
                self._apply()
            self._note_due()
            if not self._unfinished:
                break
            while self._unfinished and not self._shared_is_due:
                if not self.derivations.frame.is_due:
                    self._finish_stocked()
                    yield
                if self._unfinished:
                    yield from self._finishing(next(iter(self._unfinished)))
        self._stocks.settled()

    @property
    def _shared(self) -> tuple[Shared[Any, Scope, Any], ...]:
        return self.derivations.hosts, self.derivations.shelf

    @property
    def _shared_is_due(self) -> bool:
        derived = self.derivations
        return derived.graph.is_due or not (derived.hosts.is_settled and derived.shelf.is_settled)

    def _note_due(self) -> None:
        for _, scope in self.derivations.frame.due():
            self._unfinished.setdefault(self._scopes[scope], {})
        for proxy in self.derivations.own.due():
            if proxy in self._at:
                self._unfinished.setdefault(self._at[proxy], {})[proxy] = None

    def _finish_stocked(self) -> None:
        """All those for whom nothing is different but the stock, as where endpoints come and go: it costs next to nothing."""
        finished = [table for table, touched in self._unfinished.items() if not touched]
        for table in finished:
            del self._unfinished[table]
            table.commit()
            self._finished.setdefault(table, {})

    def _finishing(self, table: ScopeTable) -> Iterator[None]:
        """All of it is committed at once: a proxy that is told of a route finds its upstreams beside it."""
        self.derivations.frame.bring(None, table.scope)
        self._apply()
        for proxy in list(self._unfinished[table]):
            yield
            self.derivations.own.bring(proxy)
            self._apply()
        yield
        if self._shared_is_due or table not in self._unfinished:
            return
        table.commit()
        touched = self._unfinished.pop(table)
        for proxy in touched:
            self._own[proxy].commit()
        self._finished.setdefault(table, {}).update(touched)

    def changed(self) -> dict[Proxy, Changes]:
        """For each proxy of a scope that was finished since the last call: what is different, with the versions that there were."""
        found: dict[Proxy, Changes] = {}
        for table, touched in self._finished.items():
            changes = table.take_changed()
            if changes:
                found.update(dict.fromkeys(table.proxies, changes))
            for proxy in touched:
                changes = self._own[proxy].take_changed()
                if changes:
                    found[proxy] = _both(found.get(proxy, {}), changes)
            for proxy in self._moved.keys() & table.proxies.keys() if self._moved else ():
                before = self._moved.pop(proxy)
                had = {
                    kind: {name: before.get(kind, {}).get(name, "") for name in names}
                    for kind, names in table.current.items()
                }
                found[proxy] = _both(_both(found.get(proxy, {}), had), before)
        self._finished.clear()
        return found

    def _apply(self) -> None:
        """Hands out what was found to be different. Proxies see nothing of it before their scope is finished."""
        derived = self.derivations
        for change in derived.graph.take_changes():
            if isinstance(change.key, Proxy) and change.key in self._connected:
                if isinstance(change.new, Scope):
                    self._enter(change.key, change.new)
                else:
                    self._own[change.key].replace(change.old or (), change.new)
                    self._unfinished.setdefault(self._at[change.key], {})[change.key] = None
        for subject, _, hosts in self._each(derived.hosts):
            subject.want(hosts.blocks)
        for subject, block, filled in self._each(derived.shelf):
            subject.take_shelf(block, filled.shelf)
        for subject, _, found in self._each(derived.frame):
            subject.take_frame(found)

    def _each(self, found: Shared[Any, Scope, Any]) -> Iterator[tuple[ScopeTable, Any, Any]]:
        for change in found.take_changes():
            for scope in change.subjects:
                table = self._scopes.get(scope)  # type: ignore[call-overload]
                if table is not None:
                    self._unfinished.setdefault(table, {})
                    yield table, change.key, change.new

    def _enter(self, proxy: Proxy, scope: Scope) -> None:
        before = self._at.get(proxy)
        if before is not None:
            self._moved.setdefault(proxy, before.told)
        self._leave(proxy)
        table = self._scopes.get(scope)
        if table is None:
            table = self._scopes[scope] = ScopeTable(scope, self.derivations, self._stocks)
        table.proxies[proxy] = None
        self._at[proxy] = table
        self._unfinished.setdefault(table, {})[proxy] = None
        own = self._own[proxy].by_type
        layered = {kind: _Layered(own[kind], table, kind) for kind in TYPES}
        self._views[proxy] = ResourceSet(MappingProxyType(layered), own, table.edition)

    def _leave(self, proxy: Proxy) -> None:
        table = self._at.pop(proxy, None)
        self._views.pop(proxy, None)
        if table is None:
            return
        del table.proxies[proxy]
        self._unfinished.get(table, {}).pop(proxy, None)
        self._finished.get(table, {}).pop(proxy, None)
        if not table.proxies:
            self._unfinished.pop(table, None)
            self._finished.pop(table, None)
            del self._scopes[table.scope]
            table.end()


def _both(one: Changes, other: Changes) -> Changes:
    """Of what is in both, the other's. What is in one of them alone is not copied: a thousand proxies have nearly all in common."""
    found = {**one, **other}
    for kind in one.keys() & other.keys():
        found[kind] = {**one[kind], **other[kind]} if one[kind] and other[kind] else one[kind] or other[kind]
    return found


class _Layered(Living):
    """What is a proxy's own, before what is its scope's, before the stock."""

    __slots__ = ("_kind", "_own", "_scope", "_table")

    def __init__(self, own: Mapping[str, Resource], table: ScopeTable, kind: str) -> None:
        self._own = own
        self._scope = table.by_type[kind]
        self._table = table
        self._kind = kind

    def __getitem__(self, name: str) -> Resource:
        found = self._own.get(name) or self._scope.get(name)
        return self._table.stock.of_type(self._kind)[name] if found is None else found

    def whole(self) -> Mapping[str, Resource]:
        return {**self._table.stock.of_type(self._kind), **self._scope, **self._own}

    def versions(self) -> Mapping[str, str]:
        return {**self._table.stock_versions(self._kind), **versions_in(self._scope), **versions_in(self._own)}

    def __contains__(self, name: object) -> bool:
        return name in self._own or name in self._scope or name in self._table.stock.of_type(self._kind)

    def __iter__(self) -> Iterator[str]:
        own, scope = self._own, self._scope
        yield from own
        yield from (name for name in scope if name not in own)
        yield from (name for name in self._table.stock.of_type(self._kind) if name not in own and name not in scope)

    def __len__(self) -> int:
        return len(self.whole())
