"""The list of decisions names each page once, in order, by its own title."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parents[1] / "docs" / "decisions"


def test_every_decision_is_listed_once_in_order_and_by_its_title():
    told = [line for line in (FOLDER / "README.md").read_text().splitlines() if line.startswith("| [")]

    wanted = []
    for page in sorted(FOLDER.glob("0*.md")):
        number, _, title = page.read_text().splitlines()[0].removeprefix("# ").partition(". ")
        wanted.append(f"| [{number}]({page.name}) | {title} |")

    assert told == wanted
