"""Every code that is in the source is documented, and what is documented is what the source says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

from isthmus.assurance.catalogue.lookup import all_codes

ROOT = Path(__file__).parents[2]


def pages_tool() -> ModuleType:
    specification = importlib.util.spec_from_file_location("findings_pages", ROOT / "tools/findings_pages.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_each_code_of_the_catalogue_has_a_page_that_is_current() -> None:
    """`make findings` writes them."""
    tool = pages_tool()
    expected = {f"{code.id}.md": tool.page(code) for code in all_codes().values()}

    assert {file.name: file.read_text() for file in (ROOT / "docs/findings").glob("*.md")} == expected


def test_the_overview_lists_the_catalogue_as_it_is() -> None:
    overview = (ROOT / "docs/findings.md").read_text()

    assert pages_tool().with_table(overview) == overview


def test_no_code_means_two_things() -> None:
    listed = re.findall(r"^\| (ISM\d{4}) \|", (ROOT / "docs/findings.md").read_text(), re.MULTILINE)

    assert listed == sorted(set(listed))


def test_every_code_in_the_source_is_documented() -> None:
    overview = (ROOT / "docs/findings.md").read_text()
    used = {
        code for file in (ROOT / "src").rglob("*.py") for code in re.findall(r'"((?:ISM|IST)\d{4})"', file.read_text())
    }

    assert len(used) > 50
    assert {code for code in used if f"| {code} |" not in overview and f"| [{code}]" not in overview} == set()


def test_codes_say_what_comes_of_them_and_what_to_do() -> None:
    for code in all_codes().values():
        assert code.title.endswith(".")
        assert code.why.endswith(".")
        assert code.fix.endswith(".")
