"""The page of failure modes has every experiment of the program that writes it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def program() -> Any:
    described = importlib.util.spec_from_file_location("failure_modes", ROOT / "tools" / "failure_modes.py")
    program = importlib.util.module_from_spec(described)
    sys.modules["failure_modes"] = program
    described.loader.exec_module(program)
    return program


def test_every_experiment_is_in_each_table_of_the_page_for_each_client(program):
    page = (ROOT / "docs" / "failure-modes.md").read_text()

    tables = page.count("| What | How |")
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    for experiment in program.EXPERIMENTS:
        for client in experiment.clients:
            row = f"| {experiment.what} | {experiment.how} | {client} |"
            assert sum(line.startswith(row) for line in rows) == tables, f"run `make failure-modes`: {row}"


def test_rows_that_are_not_measured_again_stay_as_they_are(program):
    page = ROOT / "docs" / "failure-modes.md"

    again = program._page(*(program._table(rows, []) for rows in program._rows_of(page)))

    assert [line for line in again.splitlines() if line.startswith("|")] == [
        line for line in page.read_text().splitlines() if line.startswith("|")
    ]
