"""The drawing: what is derived from what, from the snapshot to each proxy's resources.

    snapshot ─▶ outbound view (scope) ─▶ outbound resources (scope) ─┐
        ├─────▶ scope (proxy) ──────────▶ which of them ──────────────┤
        └─────▶ inbound view (proxy) ─────────────────────────────────┴─▶ resources (proxy)

A scope's part is computed and encoded once for all its proxies. A derivation that fails keeps its last good value: the proxies that depend
on it keep their last good configuration, and the failure is shown on the debug page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from isthmus.discovery.callers import scope_for
from isthmus.discovery.inbound import inbound_view
from isthmus.discovery.view import outbound_view
from isthmus.envoy.compile import compile_outbound, compile_view
from isthmus.envoy.resources import ResourceSet
from isthmus.incremental.graph import Derived, Fetch, Graph, Source
from isthmus.model.snapshot import Snapshot
from isthmus.model.views import InboundView, OutboundView, Proxy, Scope, View

_NOW = "now"


class Derivations:
    """Every connected proxy's resources, kept current with the newest snapshot."""

    def __init__(self) -> None:
        self.graph = Graph()
        self._snapshot: Source[str, Snapshot] = self.graph.source("snapshot")
        self._outbound: Derived[Scope, OutboundView] = self.graph.derive("outbound view", self._view_outbound)
        self._encoded: Derived[Scope, ResourceSet] = self.graph.derive("outbound resources", self._encode_outbound)
        self._scope: Derived[Proxy, Scope] = self.graph.derive("scope", self._scope_of)
        self._inbound: Derived[Proxy, InboundView] = self.graph.derive("inbound view", self._view_inbound)
        self._resources: Derived[Proxy, ResourceSet] = self.graph.derive("resources", self._encode)
        self._connected: Counter[Proxy] = Counter()

    @property
    def snapshot(self) -> Snapshot | None:
        """The newest snapshot; None before the first."""
        return self._snapshot.values().get(_NOW)

    def learn(self, snapshot: Snapshot) -> None:
        """Makes this the newest snapshot. What it changes is computed by the next `settling`."""
        self._snapshot.set(_NOW, snapshot)

    def connect(self, proxy: Proxy) -> None:
        """From now on this proxy's resources are wanted. Calls are counted: an agent asks for the same proxy as its Envoy."""
        self._connected[proxy] += 1
        self._resources.observe(proxy)

    def disconnect(self, proxy: Proxy) -> None:
        """Ends one `connect`."""
        self._connected[proxy] -= 1
        if not self._connected[proxy]:
            del self._connected[proxy]
            self._resources.release(proxy)

    def settling(self) -> Iterator[None]:
        """Computes what is due, one proxy at a time, so that a caller can let others run in between."""
        return self.graph.settling()

    def changed(self) -> dict[Proxy, ResourceSet]:
        """The proxies whose resources the last settling made different."""
        return {change.key: change.new for change in self.graph.settle() if isinstance(change.key, Proxy)}

    def resources(self, proxy: Proxy) -> ResourceSet | None:
        """A connected proxy's resources as of the last settling."""
        return self._resources.value(proxy)

    @property
    def proxies(self) -> list[Proxy]:
        return list(self._connected)

    def _scope_of(self, fetch: Fetch, proxy: Proxy) -> Scope:
        return scope_for(proxy, self._current(fetch))

    def _view_outbound(self, fetch: Fetch, scope: Scope) -> OutboundView:
        return outbound_view(scope, self._current(fetch))

    def _encode_outbound(self, fetch: Fetch, scope: Scope) -> ResourceSet:
        view = fetch.get(self._outbound, scope)
        assert view is not None, "a view is never None"
        return compile_outbound(view)

    def _view_inbound(self, fetch: Fetch, proxy: Proxy) -> InboundView:
        return inbound_view(proxy, self._current(fetch))

    def _encode(self, fetch: Fetch, proxy: Proxy) -> ResourceSet:
        scope = fetch.get(self._scope, proxy)
        assert scope is not None, "a scope is never None"
        outbound = fetch.get(self._outbound, scope)
        encoded = fetch.get(self._encoded, scope)
        inbound = fetch.get(self._inbound, proxy)
        assert outbound is not None, "a view is never None"
        assert encoded is not None, "a resource set is never None"
        assert inbound is not None, "a view is never None"
        view = View(proxy=proxy, outbound=outbound, inbound=inbound)
        return compile_view(view, encoded)

    def _current(self, fetch: Fetch) -> Snapshot:
        snapshot = fetch.get(self._snapshot, _NOW)
        assert snapshot is not None, "proxies are admitted after the first snapshot"
        return snapshot
