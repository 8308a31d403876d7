"""Every guide is executed, and every example has a guide or a test that boots it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from isthmus.cli.topologies import guide_of

ROOT = Path(__file__).parents[1]
GUIDES = sorted(
    path for path in (ROOT / "docs" / "guides").glob("*.md") if path.stem not in ("README", "choosing", "promises")
)
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
PROMISES = ROOT / "docs" / "guides" / "promises.md"
PROMISED = {"D": 8, "C": 9, "N": 9, "W": 11, "P": 17, "I": 11, "T": 9}
LIVE = "".join(path.read_text() for path in (ROOT / "tests" / "live").rglob("test_*.py"))


@pytest.mark.parametrize("page", GUIDES, ids=lambda path: path.stem)
def test_a_live_module_follows_the_guide_to_its_end(page):
    text = page.read_text()

    assert f'guided("{page.stem}")' in LIVE
    assert re.findall(r"^\$ (.*)$", text, re.M)[-1] == "isthmus down"


@pytest.mark.parametrize("page", GUIDES, ids=lambda path: path.stem)
def test_a_guide_says_why_what_it_looks_like_and_what_breaks(page):
    text = page.read_text()

    assert all(
        part in text for part in ("**Why.**", "**The price:**", "## How it works", "## What breaks when", "\n```\n")
    )


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_a_guide_shows_its_examples_topology_as_it_is(path):
    page = (ROOT / "docs" / "guides" / f"{path.stem}.md").read_text()

    [shown, *_] = re.findall(r"^```yaml\n(.*?)^```$", page, re.S | re.M)
    assert shown == path.read_text()[path.read_text().index("spec:\n") :]


@pytest.mark.parametrize(
    "page", [*GUIDES, ROOT / "docs" / "guides" / "README.md", PROMISES], ids=lambda path: path.stem
)
def test_links_of_guides_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:)([^)# ]+)", page.read_text())

    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_in_the_table_of_guides(path):
    assert path.stem in (ROOT / "docs" / "guides" / "README.md").read_text()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_whoever_boots_an_example_is_told_of_its_page(path, monkeypatch):
    monkeypatch.chdir(ROOT)

    assert guide_of(path.relative_to(ROOT)) == ROOT / "docs" / "guides" / f"{path.stem}.md"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_begins_with_one_line_and_a_drawing(path):
    lines = path.read_text().splitlines()
    comment = lines[: next(index for index, line in enumerate(lines) if not line.startswith("#"))]

    assert len(comment[0]) <= 150
    assert any("─" in line for line in comment[1:])


def test_every_promise_has_an_example_a_proof_and_a_page():
    rows = [
        line.strip("| ").split(" | ") for line in PROMISES.read_text().splitlines() if re.match(r"\| [A-Z]\d", line)
    ]

    assert [row[0] for row in rows] == [
        f"{kind}{number + 1}" for kind, count in PROMISED.items() for number in range(count)
    ]
    assert all(len(row) == 5 and "](" in row[3] and "](" in row[4] for row in rows)
    assert all(row[2] == "all" or ".yaml)" in row[2] for row in rows)
    assert [row[0] for row in rows if "/tests/live/" not in row[3]] == ["D3"], (
        "what is told of all examples is no one mesh's"
    )


def test_every_proof_that_is_named_is_there():
    proofs = re.findall(r"\]\((\S+/tests/\S+?\.(?:py|md))(?: \"(\w+)\")?\)", PROMISES.read_text())

    files = {path: (PROMISES.parent / path).read_text() for path, _ in proofs}
    assert [name for path, name in proofs if path.endswith(".py") and f"def {name}(" not in files[path]] == []
    assert [path for path, _ in proofs if path.endswith(".md") and "/scenarios/" not in path] == []
