"""The durable half of the store: one SQLite file, written by one thread, many writes to a commit.

A write's future is resolved after its commit. The resource version counter is reserved ahead in steps, so that a version is never given out
twice, whatever happened to the process in between.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

_BATCH_MAX = 256
_RESERVED = 10_000

Write = tuple[str, int, bytes | None]
"""Key, resource version, and the object (None deletes it)."""


class StorageFailed(Exception):
    """The disk refused a write; nothing of that commit is stored."""


class Persistence:
    """Opened by one event loop. `:memory:` keeps nothing beyond the process."""

    def __init__(self, path: Path | str) -> None:
        self._connection = sqlite3.connect(str(path), check_same_thread=False, isolation_level=None)
        if path != ":memory:":
            Path(path).chmod(0o600)
        for statement in (
            "PRAGMA journal_mode=WAL",
            "PRAGMA synchronous=NORMAL",
            "CREATE TABLE IF NOT EXISTS object (key TEXT PRIMARY KEY, version INTEGER, body BLOB) WITHOUT ROWID",
            "CREATE TABLE IF NOT EXISTS counter (name TEXT PRIMARY KEY, value INTEGER) WITHOUT ROWID",
        ):
            self._connection.execute(statement)
        self._queue: queue.SimpleQueue[tuple[Write, asyncio.Future[None]] | None] = queue.SimpleQueue()
        self._reserved = self._reserve(self._stored_counter())
        self.first_version = self._reserved - _RESERVED + 1
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._write_forever, name="sqlite writer", daemon=True)

    def load(self) -> Iterator[tuple[str, int, bytes]]:
        """Every stored object: key, resource version, body."""
        yield from self._connection.execute("SELECT key, version, body FROM object")

    def start(self) -> None:
        """From now on writes are taken; to be called in the event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def write(self, write: Write) -> asyncio.Future[None]:
        """Resolved after the commit that has it. Raises StorageFailed there."""
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

    def _next_batch(self) -> list[tuple[Write, asyncio.Future[None]] | None]:
        batch = [self._queue.get()]
        while len(batch) < _BATCH_MAX and batch[-1] is not None:
            try:
                batch.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return batch

    def _commit(self, items: list[tuple[Write, asyncio.Future[None]]]) -> None:
        error: Exception | None = None
        try:
            self._connection.execute("BEGIN")
            for (key, version, body), _ in items:
                if version >= self._reserved:
                    self._reserved = self._reserve(version)
                if body is None:
                    self._connection.execute("DELETE FROM object WHERE key = ?", (key,))
                else:
                    self._connection.execute("INSERT OR REPLACE INTO object VALUES (?, ?, ?)", (key, version, body))
            self._connection.execute("COMMIT")
        except sqlite3.Error as failure:
            error = StorageFailed(f"the object store cannot write: {failure}")
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        assert self._loop is not None, "started"
        self._loop.call_soon_threadsafe(_resolve, [future for _, future in items], error)

    def _stored_counter(self) -> int:
        row = self._connection.execute("SELECT value FROM counter WHERE name = 'reserved'").fetchone()
        return int(row[0]) if row else 0

    def _reserve(self, above: int) -> int:
        reserved = above + _RESERVED
        self._connection.execute("INSERT OR REPLACE INTO counter VALUES ('reserved', ?)", (reserved,))
        return reserved


def _resolve(futures: list[asyncio.Future[None]], error: Exception | None) -> None:
    for future in futures:
        if future.cancelled():
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
