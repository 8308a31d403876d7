"""Free memory goes back to the system, once the process is quiet."""

from __future__ import annotations

import subprocess
import sys

from isthmus.controlplane.spare_memory import Quiet

IN_A_PROCESS_OF_ITS_OWN = """
from isthmus.controlplane.spare_memory import trimmer

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

pieces = [bytes(2000) for _ in range(50_000)]
most = resident()
pieces = pieces[::50]  # What is left lies above what is free: nothing goes back by itself.
trim = trimmer()
kept = resident()
trim()
print(most, kept, resident())
"""


def test_what_is_free_between_what_is_used_goes_back():
    said = subprocess.run(
        [sys.executable, "-c", IN_A_PROCESS_OF_ITS_OWN], check=True, capture_output=True, text=True, timeout=60
    ).stdout
    most, kept, left = map(int, said.split())

    assert kept > most - 20_000_000
    assert left < most - 50_000_000


def test_only_a_process_that_was_busy_becomes_quiet_and_once():
    quiet = Quiet()

    assert [quiet.begins(share) for share in (0.0, 0.9, 0.5, 0.05, 0.01, 0.2, 0.0)] == [
        False, False, False, True, False, False, True,
    ]  # fmt: skip
