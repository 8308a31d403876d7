"""Writes docs/findings/CODE.md for every code of the catalogue, and their table in docs/findings.md. Run by `make findings`."""

from __future__ import annotations

from pathlib import Path

from isthmus.assurance.catalogue.code import Code
from isthmus.assurance.catalogue.lookup import SUBJECTS, all_codes, codes_of

DOCS = Path(__file__).parents[1] / "docs"
BEGIN, END = "<!-- catalogue: written by make findings -->", "<!-- end of the catalogue -->"


def page(code: Code) -> str:
    """One code's page."""
    level = code.severity.name.title()
    return (
        f"# {code.id}\n\n**{level}**: {code.title}\n\n## What comes of it\n\n{code.why}\n\n## What to do\n\n{code.fix}\n\n"
        f"Where this is meant, leave the finding out with `--suppress {code.id}`, or `--suppress "
        f"'{code.id}=KIND NAMESPACE/NAME'` for one object (`*` stands for any text).\n"
    )


def table() -> str:
    """All codes by subject, each with a link to its page."""
    parts = []
    for subject, module in SUBJECTS:
        rows = [
            f"| [{code.id}](findings/{code.id}.md) | {code.severity.name.title()} | {code.title} | {code.fix} |"
            for code in codes_of(module)
        ]
        parts.append(
            f"### {subject}\n\n| Code | Level | What is wrong | What to do |\n| --- | --- | --- | --- |\n"
            + "\n".join(rows)
        )
    return "\n\n".join(parts)


def with_table(text: str) -> str:
    """The overview with its table as it should be."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n\n{table()}\n\n{END}{tail}"


def main() -> None:
    """Writes what differs, and takes away pages of codes that are no more."""
    folder = DOCS / "findings"
    folder.mkdir(exist_ok=True)
    pages = {f"{code.id}.md": page(code) for code in all_codes().values()}
    for old in folder.glob("*.md"):
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        (folder / name).write_text(text)
    overview = DOCS / "findings.md"
    overview.write_text(with_table(overview.read_text()))


if __name__ == "__main__":
    main()
