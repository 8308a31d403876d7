"""Which file is meant by a topology's name."""

from __future__ import annotations

from pathlib import Path

import pytest

from isthmus.cli.topologies import TopologyFile, examples


@pytest.mark.parametrize("name", ["one-shore", "one-shore.yaml"])
def test_an_example_may_be_called_by_its_name_and_a_file_of_that_name_comes_first(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    chosen = TopologyFile()

    assert chosen.convert(name, None, None) in examples()

    (tmp_path / name).write_text("mine")
    assert chosen.convert(name, None, None) == Path(name)
