"""The durable half of the store: one SQLite file, written by one thread, many writes to a commit.

A write's future is resolved after its commit. The resource version counter is reserved well ahead in steps, so that a version is never given
out twice, whatever happened to the process in between, and whoever has seen a version before it was durable.

The first write that the disk refuses is the last one: memory is ahead of the disk then, and only a restart makes them one again.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

_BATCH_MAX = 256
_RESERVED = 10_000

_SCHEMA = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=NORMAL",
    "CREATE TABLE IF NOT EXISTS object (key TEXT PRIMARY KEY, version INTEGER, body BLOB) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS counter (name TEXT PRIMARY KEY, value INTEGER) WITHOUT ROWID",
)

Write = tuple[str, int, bytes | None]
"""Key, resource version, and the object (None deletes it)."""


_Item = tuple[Write | None, asyncio.Future[None]]
"""Without a write, the future only waits for everything before it."""


class StorageFailed(Exception):
    """The disk refused a write; nothing of that commit is stored, and nothing will be."""


def _nothing() -> None:
    """Nobody wants to know."""


class Persistence:
    """Used by one event loop. Raises StorageFailed if the file cannot be opened, or is none of ours."""

    def __init__(self, path: Path) -> None:
        try:
            self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        except sqlite3.Error as error:
            raise StorageFailed(f"cannot open the object store {path}: {error}") from None
        try:
            self._check()
            path.chmod(0o600)
            for statement in _SCHEMA:
                self._connection.execute(statement)
            self._reserved = self._reserve(self._stored_counter())
        except (sqlite3.Error, OSError) as error:
            self._connection.close()
            raise StorageFailed(f"cannot open the object store {path}: {error}") from None
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self.first_version = self._reserved - _RESERVED + 1
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_failure: Callable[[], None] = _nothing
        self.failure: StorageFailed | None = None
        self._thread = threading.Thread(target=self._write_forever, name="sqlite writer", daemon=True)

    def _check(self) -> None:
        """Raises sqlite3.Error for a file that is damaged, or somebody else's, before anything is written to it."""
        tables = {name for (name,) in self._connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables and not {"object", "counter"} & tables:
            raise sqlite3.DatabaseError(
                f"it is another program's database, with tables {', '.join(sorted(tables))}; give the server a directory of its own"
            )
        damage = self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if damage != "ok":
            raise sqlite3.DatabaseError(
                f"it is damaged ({damage}); restore it from a copy, or move it away to begin anew"
            )

    def load(self) -> Iterator[tuple[str, int, bytes]]:
        """Every stored object: key, resource version, body."""
        yield from self._connection.execute("SELECT key, version, body FROM object")

    def start(self, on_failure: Callable[[], None] = _nothing) -> None:
        """From now on writes are taken; to be called in the event loop, as `on_failure` will be."""
        self._loop = asyncio.get_running_loop()
        self._on_failure = on_failure
        self._thread.start()

    def write(self, write: Write) -> asyncio.Future[None]:
        """Resolved after the commit that has it. Raises StorageFailed there."""
        return self._put(write)

    def settled(self) -> asyncio.Future[None]:
        """Resolved when every write before it is durable. Raises StorageFailed there."""
        return self._put(None)

    def _put(self, write: Write | None) -> asyncio.Future[None]:
        assert self._loop is not None, "started"
        future: asyncio.Future[None] = self._loop.create_future()
        self._queue.put((write, future))
        return future

    def close(self) -> None:
        """After everything that was queued is committed."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()
        self._connection.close()

    def _write_forever(self) -> None:
        while True:
            batch = self._next_batch()
            items = [item for item in batch if item is not None]
            if items:
                self._commit(items)
            if len(items) < len(batch):
                return

    def _next_batch(self) -> list[_Item | None]:
        batch = [self._queue.get()]
        while len(batch) < _BATCH_MAX and batch[-1] is not None:
            try:
                batch.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return batch

    def _commit(self, items: list[_Item]) -> None:
        failure = self.failure
        if failure is None:
            try:
                self._store([write for write, _ in items if write is not None])
            except Exception as error:  # Whatever it is, those who wait must hear of it: this thread has no caller.
                failure = self.failure = StorageFailed(f"the object store cannot write: {error}")
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
        assert self._loop is not None, "started"
        self._loop.call_soon_threadsafe(self._resolve, [future for _, future in items], failure)

    def _store(self, writes: list[Write]) -> None:
        """In one transaction. The counter goes first, in one of its own: a rollback must not take it back."""
        if writes and writes[-1][1] >= self._reserved - _RESERVED // 2:
            self._reserved = self._reserve(writes[-1][1])
        self._connection.execute("BEGIN")
        for key, version, body in writes:
            if body is None:
                self._connection.execute("DELETE FROM object WHERE key = ?", (key,))
            else:
                self._connection.execute("INSERT OR REPLACE INTO object VALUES (?, ?, ?)", (key, version, body))
        self._connection.execute("COMMIT")

    def _resolve(self, futures: list[asyncio.Future[None]], failure: StorageFailed | None) -> None:
        for future in futures:
            if future.cancelled():
                continue
            if failure is None:
                future.set_result(None)
            else:
                future.set_exception(failure)
        if failure is not None:
            self._on_failure()

    def _stored_counter(self) -> int:
        row = self._connection.execute("SELECT value FROM counter WHERE name = 'reserved'").fetchone()
        return int(row[0]) if row else _RESERVED

    def _reserve(self, above: int) -> int:
        reserved = above + _RESERVED
        self._connection.execute("INSERT OR REPLACE INTO counter VALUES ('reserved', ?)", (reserved,))
        return reserved
