"""Keys of tokens that were fetched, kept on disk for a control plane that starts again while an issuer does not answer.

They are public, and bounded: so many addresses, so much in all, and none older than a week, for an issuer may have taken a key back meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import structlog

from isthmus.controlplane.kept_files import replace_file
from isthmus.ingest.token_keys import check_keys

_FILE = "token-keys"
_ADDRESSES_MAX = 1000
_BYTES_MAX = 32 << 20
_AGE_MAX = timedelta(days=7)

log = structlog.get_logger()


class KeptSet(msgspec.Struct, frozen=True):
    """A key set, and when its address gave it last."""

    jwks: str
    at: datetime


class KeptKeys:
    """One file in a directory; without one nothing is kept. `now` is the time, with its zone."""

    def __init__(self, directory: str, now: Callable[[], datetime]) -> None:
        self._path = Path(directory) / _FILE if directory else None
        self._now = now
        self._sets = self._read()

    def recalled(self, address: str) -> KeptSet | None:
        """What the address gave last, if that is not too long ago."""
        found = self._sets.get(address)
        return found if found is not None and self._now() - found.at <= _AGE_MAX else None

    def keep(self, address: str, jwks: str) -> None:
        if self._path is None:
            return
        self._sets[address] = KeptSet(jwks, self._now())
        self._write()

    def forget(self, address: str) -> None:
        """Nobody asks for its tokens any more."""
        if self._path is not None and self._sets.pop(address, None) is not None:
            self._write()

    def _read(self) -> dict[str, KeptSet]:
        if self._path is None:
            return {}
        try:
            if self._path.stat().st_size > _BYTES_MAX:
                return {}
            found = msgspec.json.decode(self._path.read_bytes(), type=dict[str, KeptSet])
            for each in found.values():
                check_keys(each.jwks)
                self._now() - each.at  # Without a zone it cannot be compared with now.
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError) as error:
            log.warning("kept keys of tokens cannot be read", error=str(error))
            return {}
        return found

    def _write(self) -> None:
        assert self._path is not None, "asked only where there is one"
        body = msgspec.json.encode(self._sets)
        if len(self._sets) > _ADDRESSES_MAX or len(body) > _BYTES_MAX:
            log.warning("keys of tokens are not kept: there are too many", addresses=len(self._sets), size=len(body))
            return
        try:
            replace_file(self._path, body)
        except OSError as error:
            log.warning("keys of tokens not kept", error=str(error))
