"""Questions and answers, as people type and read them. Each file in transcripts/ tells of one mesh: prose, `$ isthmus …` and what it says.

ISTHMUS_REWRITE=1 writes the answers anew: read every changed line.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from isthmus.cli.app import isthmus

HERE = Path(__file__).parent


def answered(line: str) -> str:
    """What the command prints, or the one line that it fails with."""
    words = shlex.split(line.removeprefix("$ isthmus "))
    done = CliRunner().invoke(isthmus, [*words, "--scenario", str(HERE / "shop.yaml")])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.output


def rewritten(text: str) -> str:
    """The transcript with every answer as it is now. Answers are indented by four, and end with the indentation."""
    found: list[str] = []
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith("    ") and not line.startswith("    $"):
            continue
        found.append(line)
        if line.startswith("    $ isthmus "):
            found += [f"    {each}".rstrip() for each in answered(line.strip()).splitlines()]
    return "\n".join(found) + "\n"


@pytest.mark.parametrize("file", sorted((HERE / "transcripts").glob("*.md")), ids=lambda file: file.stem)
def test_transcript(file):
    now = rewritten(file.read_text())

    if os.environ.get("ISTHMUS_REWRITE"):
        file.write_text(now)
    assert now == file.read_text()
