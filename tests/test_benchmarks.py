"""The processes of a benchmark: two benchmarks run side by side, and a profile is waited for."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from bench.processes import BenchFailed, Child, own_address

_WRITES_LATE = """
import pathlib, signal, sys
signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path(sys.argv[1]).write_text("profile"), sys.exit(0)))
print("serving", flush=True)
signal.pause()
"""


def child(tmp_path: Path, script: str) -> Child:
    """One that is to write a file at its end."""
    words = tmp_path / "profile"
    command = [sys.executable, "-c", script, str(words)]
    found = Child("the control plane", command, dict(os.environ), tmp_path / "log", last_words=words)
    found.until_logged("serving", 60)
    return found


def test_two_benchmarks_have_addresses_of_their_own_and_give_them_back():
    with own_address() as one, own_address() as other:
        assert one != other
    with own_address() as again:
        assert again == one


def test_one_that_is_stopped_has_written_its_profile(tmp_path):
    child(tmp_path, _WRITES_LATE).stop()

    assert (tmp_path / "profile").read_text() == "profile"


def test_a_profile_that_was_not_written_is_a_failure_that_is_told(tmp_path):
    stopped = child(tmp_path, "import signal; print('serving', flush=True); signal.pause()")

    with pytest.raises(BenchFailed, match="ended without writing"):
        stopped.stop()
