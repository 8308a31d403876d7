"""The page of failure modes has every experiment of the program that writes it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_experiment_is_in_each_table_of_the_page_for_each_client():
    described = importlib.util.spec_from_file_location("failure_modes", ROOT / "tools" / "failure_modes.py")
    program = importlib.util.module_from_spec(described)
    sys.modules["failure_modes"] = program
    described.loader.exec_module(program)
    page = (ROOT / "docs" / "failure-modes.md").read_text()

    tables = page.count("| What | How |")
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    for experiment in program.EXPERIMENTS:
        for client in experiment.clients:
            row = f"| {experiment.what} | {experiment.how} | {client} |"
            assert sum(line.startswith(row) for line in rows) == tables, f"run `make failure-modes`: {row}"
