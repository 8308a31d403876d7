"""`tools/python.sh`: of the Pythons of a machine, the fastest one makes `.venv`. Those here are scripts that say how long they took."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_SCRIPT = Path(__file__).parents[1] / "tools" / "python.sh"


def _python(folder: Path, name: str, says: str) -> str:
    found = folder / name
    found.write_text(f"#!/bin/sh\n{says}\n")
    found.chmod(0o755)
    return str(found)


def _chosen(*candidates: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(_SCRIPT), *candidates], env={**os.environ, "PYTHON": given}, capture_output=True, text=True, check=False
    )


def test_the_fastest_is_chosen(tmp_path: Path) -> None:
    plain = _python(tmp_path, "plain", "echo 20000 /opt/plain")
    optimized = _python(tmp_path, "optimized", "echo 12000 /opt/optimized")
    assert _chosen(plain, optimized).stdout == "/opt/optimized\n"


def test_the_first_is_kept_while_the_other_is_hardly_faster(tmp_path: Path) -> None:
    first = _python(tmp_path, "first", "echo 20000 /opt/first")
    other = _python(tmp_path, "other", "echo 19000 /opt/other")
    assert _chosen(first, other).stdout == "/opt/first\n"


def test_what_is_too_old_or_not_there_is_passed_over(tmp_path: Path) -> None:
    old = _python(tmp_path, "old", "echo too old >&2; exit 1")
    fits = _python(tmp_path, "fits", "echo 20000 /opt/fits")
    assert _chosen(old, str(tmp_path / "missing"), fits).stdout == "/opt/fits\n"


def test_without_any_it_is_said_what_is_needed(tmp_path: Path) -> None:
    chosen = _chosen(_python(tmp_path, "old", "exit 1"))
    assert (chosen.returncode, chosen.stdout) == (1, "")
    assert "needs Python 3.11 or later" in chosen.stderr


def test_a_real_one_is_measured_and_named() -> None:
    assert Path(_chosen(sys.executable).stdout.strip()).samefile(sys.executable)


def test_whoever_names_one_gets_it(tmp_path: Path) -> None:
    assert _chosen(_python(tmp_path, "other", "echo 1 /opt/other"), given="/opt/mine").stdout == "/opt/mine\n"
