"""The durable half of the store: one SQLite file. The first write of a turn of the event loop is committed at once, and those that follow in
the same turn share a commit at its end.

A write's future is resolved after its commit, which is made by the event loop itself: it is a write to the kernel's memory and costs less than
a hand-over to a thread and back. So does a write that nothing is waiting for cost less than another turn. Whoever makes one after another
waits with every second one, so that others have their turn.

What waits for the disk, the checkpoint of the log, is done in a thread; writes wait for it, reads do not.

The resource version counter is reserved well ahead in steps, so that a version is never given out twice, whatever happened to the process in
between, and whoever has seen a version before it was durable.

The file is this process's alone while it is open, so SQLite need not ask the kernel before and after each transaction, nor share the index of
its log: half of the CPU of a write. A second server over the same directory is refused.

The first write that the disk refuses is the last one: memory is ahead of the disk then, and only a restart makes them one again.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import structlog

_RESERVED = 10_000
_BUSY_SECONDS = 1.0
"""How long a server that is going may take to let go of the file."""
_CHECKPOINT_WRITES = 2000
"""After so many, the log (some ten megabytes) is copied into the database, and begins anew."""

log = structlog.get_logger()

_SCHEMA = (
    "PRAGMA page_size=8192",
    "PRAGMA locking_mode=EXCLUSIVE",
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=NORMAL",
    "PRAGMA wal_autocheckpoint=0",
    "CREATE TABLE IF NOT EXISTS stored (version INTEGER PRIMARY KEY, key TEXT NOT NULL, body BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS counter (name TEXT PRIMARY KEY, value INTEGER) WITHOUT ROWID",
)

_BY_KEY = "object"
"""The table of older versions of this program, whose rows were found by key. Rows in the order of versions are written at one end of the
file, which costs half as much."""
_FROM_BY_KEY = (
    "BEGIN IMMEDIATE",
    "INSERT INTO stored (version, key, body) SELECT version, key, body FROM object",
    "DROP TABLE object",
    "COMMIT",
)
_TABLES = frozenset({"stored", "counter", _BY_KEY})


class Write(NamedTuple):
    """One object at one resource version, and the version that it takes the place of. Without a body it is gone."""

    key: str
    version: int
    body: bytes | None
    replaces: int | None = None


_Item = tuple[Write | None, Callable[[], None], asyncio.Future[None]]
"""Without a write, the future only waits for everything before it."""


class StorageFailed(Exception):
    """The disk refused a write; nothing of that commit is stored, and nothing will be."""


def _nothing() -> None:
    """Nobody wants to know."""


class Persistence:
    """Used by one event loop. Raises StorageFailed if the file cannot be opened, is none of ours, or is in use."""

    def __init__(self, path: Path) -> None:
        try:
            self._connection = sqlite3.connect(
                path, timeout=_BUSY_SECONDS, check_same_thread=False, isolation_level=None
            )
        except sqlite3.Error as error:
            raise StorageFailed(f"cannot open the object store {path}: {error}") from None
        try:
            tables = self._checked_tables()
            path.chmod(0o600)
            for statement in (*_SCHEMA, *(_FROM_BY_KEY if _BY_KEY in tables else ())):
                self._connection.execute(statement)
            self._reserved = self._reserve(self._stored_counter())
        except (sqlite3.Error, OSError) as error:
            self._connection.close()
            is_busy = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY
            why = "another server has it open" if is_busy else error
            raise StorageFailed(f"cannot open the object store {path}: {why}") from None
        self._waiting: list[_Item] = []
        self._turn_has_begun = False
        """Whether something was committed in this turn of the loop."""
        self._committed = 0
        """Since the last checkpoint."""
        self._checkpoint: asyncio.Future[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite checkpoint")
        self.first_version = self._reserved - _RESERVED + 1
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_failure: Callable[[], None] = _nothing
        self.failure: StorageFailed | None = None

    def _checked_tables(self) -> set[str]:
        """What the file has. Raises sqlite3.Error for a file that is damaged, or somebody else's, before anything is written to it."""
        tables = {name for (name,) in self._connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables and not _TABLES & tables:
            raise sqlite3.DatabaseError(
                f"it is another program's database, with tables {', '.join(sorted(tables))}; give the server a directory of its own"
            )
        damage = self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if damage != "ok":
            raise sqlite3.DatabaseError(
                f"it is damaged ({damage}); restore it from a copy, or move it away to begin anew"
            )
        return tables

    def load(self) -> Iterator[tuple[str, int, bytes]]:
        """Every stored object: key, resource version, body."""
        yield from self._connection.execute("SELECT key, version, body FROM stored")

    def start(self, on_failure: Callable[[], None] = _nothing) -> None:
        """From now on writes are taken; to be called in the event loop, as `on_failure` will be."""
        self._loop = asyncio.get_running_loop()
        self._on_failure = on_failure

    def write(self, write: Write, then: Callable[[], None] = _nothing) -> asyncio.Future[None]:
        """Resolved after the commit that has it. Raises StorageFailed there. `then` is called right after the commit, in the order of writes."""
        return self._put(write, then)

    def settled(self) -> asyncio.Future[None]:
        """Resolved when every write before it is durable. Raises StorageFailed there."""
        return self._put(None, _nothing)

    def _put(self, write: Write | None, then: Callable[[], None]) -> asyncio.Future[None]:
        assert self._loop is not None, "started"
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append((write, then, future))
        if not self._turn_has_begun:
            self._turn_has_begun = True
            self._loop.call_soon(self._end_turn)
            self._commit()
        return future

    def _end_turn(self) -> None:
        self._turn_has_begun = False
        self._commit()

    def close(self) -> None:
        """After everything that waits is committed."""
        self._thread.shutdown()
        self._write()
        self._connection.close()

    def _commit(self) -> None:
        """Everything that waits, unless the thread has the connection."""
        if self._checkpoint is None and self._write() and self._committed >= _CHECKPOINT_WRITES:
            self._begin_checkpoint()

    def _write(self) -> bool:
        """Whether something waited, and is stored."""
        items, self._waiting = self._waiting, []
        if not items:
            return False
        if self.failure is None:
            try:
                self._store([write for write, _, _ in items if write is not None])
            except Exception as error:  # Whatever it is, those who wait must hear of it: the loop calls this, not they.
                self.failure = StorageFailed(f"the object store cannot write: {error}")
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
        self._tell(items)
        self._committed += len(items)
        return self.failure is None

    def _store(self, writes: list[Write]) -> None:
        """In one transaction. The counter goes first, in one of its own: a rollback must not take it back."""
        if writes and writes[-1].version >= self._reserved - _RESERVED // 2:
            self._reserved = self._reserve(writes[-1].version)
        execute = self._connection.execute
        alone = len(writes) == 1 and writes[0].replaces is None  # One statement is a transaction by itself.
        if not alone:
            execute("BEGIN")
        for write in writes:
            if write.replaces is not None:
                execute("DELETE FROM stored WHERE version = ?", (write.replaces,))
            if write.body is not None:
                execute("INSERT INTO stored VALUES (?, ?, ?)", (write.version, write.key, write.body))
        if not alone:
            execute("COMMIT")

    def _begin_checkpoint(self) -> None:
        assert self._loop is not None, "started"
        self._committed = 0
        self._checkpoint = self._loop.run_in_executor(self._thread, self._tidy)
        self._checkpoint.add_done_callback(self._end_checkpoint)

    def _tidy(self) -> None:
        """In the thread, which has the connection for itself. The write begins the log anew, which waits for the disk once more."""
        self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        self._reserve(self._reserved - _RESERVED)

    def _end_checkpoint(self, done: asyncio.Future[None]) -> None:
        """What waited meanwhile is committed. A checkpoint that failed leaves the log as it is: the next commit says whether the disk is gone."""
        self._checkpoint = None
        if not done.cancelled() and done.exception() is not None:
            log.warning("the log of the object store cannot be copied into it", error=str(done.exception())[:200])
        self._commit()

    def _tell(self, items: list[_Item]) -> None:
        failure = self.failure
        for _, then, future in items:
            fault: Exception | None = failure
            if failure is None:
                try:
                    then()
                except Exception as error:  # One write's listeners are not another's.
                    fault = error
            if future.cancelled():
                continue
            if fault is None:
                future.set_result(None)
            else:
                future.set_exception(fault)
        if failure is not None:
            self._on_failure()

    def _stored_counter(self) -> int:
        row = self._connection.execute("SELECT value FROM counter WHERE name = 'reserved'").fetchone()
        return int(row[0]) if row else _RESERVED

    def _reserve(self, above: int) -> int:
        reserved = above + _RESERVED
        self._connection.execute("INSERT OR REPLACE INTO counter VALUES ('reserved', ?)", (reserved,))
        return reserved
