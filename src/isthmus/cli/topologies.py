"""Topologies as people name them: a file, or one of the examples."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import click

_EXAMPLES = Path(__file__).parents[3] / "examples"


def examples() -> list[Path]:
    """By name."""
    return sorted(_EXAMPLES.glob("*.yaml"))


def guide_of(topology: Path) -> Path | None:
    """The page that explains an example."""
    page = _EXAMPLES.parent / "docs" / "guides" / f"{topology.stem}.md"
    return page if topology.resolve() in examples() and page.is_file() else None


class TopologyFile(click.ParamType[Path]):
    """A file; where there is none of that name, the example that is called so."""

    name = "topology"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(value)
        if path.is_file():
            return path
        found = next((example for example in examples() if example.stem == path.stem), None)
        if found is None:
            near = difflib.get_close_matches(path.stem, [example.stem for example in examples()], n=1)
            hint = f"did you mean {near[0]}?" if near else "`isthmus examples` lists them"
            self.fail(f"there is no file {str(path)!r}, and no example of that name: {hint}", param, ctx)
        if path.name not in (found.stem, found.name) or path.parent != Path():
            self.fail(f"there is no file {str(path)!r}; did you mean the example {found.stem}?", param, ctx)
        return found
