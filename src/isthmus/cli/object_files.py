"""Files of objects, as commands take them: files, folders and stdin, with the file and line of each object."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isthmus.api.manifests import BadManifest, Manifest, manifests_of
from isthmus.cli.errors import BAD_INPUT, Failed

_SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True)
class FileObject:
    """One object that somebody wrote."""

    value: Any
    file: str
    manifest: Manifest

    @property
    def reference(self) -> str:
        """`FILE:LINE` of the object; what comes from a live cluster has no lines."""
        return f"{self.file}:{self.manifest.line}" if self.manifest.line else self.file

    def reference_of(self, path: str) -> str:
        """`FILE:LINE` of a field."""
        return f"{self.file}:{self.manifest.line_of(path)}" if self.manifest.line else self.file


def objects_in(sources: Sequence[str], *, recursive: bool) -> list[FileObject]:
    """All objects of files, folders (the files in them; with `recursive` those of folders in them, too) and stdin (`-`).

    Raises Failed with a line for each file that cannot be read.
    """
    found: list[FileObject] = []
    problems: list[str] = []
    for name, text in _texts(sources, recursive, problems):
        try:
            found += [FileObject(manifest.value, name, manifest) for manifest in manifests_of(text)]
        except BadManifest as error:
            problems.append(f"{name}:{error.line}: {error}")
    if problems:
        raise Failed(*problems, exit_code=BAD_INPUT)
    # All of it is kept until the command ends: there is nothing in it for the collector to look at again and again.
    gc.freeze()
    return found


def some_objects_in(sources: Sequence[str], *, recursive: bool) -> list[FileObject]:
    """The same, where an empty file is likely a mistake, such as the output of a command that failed."""
    found = objects_in(sources, recursive=recursive)
    if sources and not found:
        raise Failed(f"{', '.join(sources)}: there is no object in it", exit_code=BAD_INPUT)
    return found


def _texts(sources: Sequence[str], recursive: bool, problems: list[str]) -> Iterator[tuple[str, str]]:
    for source in sources:
        if source == "-":
            yield "stdin", sys.stdin.read()
            continue
        files = _files(Path(source), recursive)
        if not files:
            problems.append(f"{source}: there is no YAML or JSON file in this folder (-R looks into its folders, too)")
        for file in files:
            try:
                yield str(file), file.read_text(encoding="utf-8-sig")
            except (OSError, UnicodeDecodeError) as error:
                problems.append(f"{file}: cannot be read: {getattr(error, 'strerror', None) or 'is not UTF-8 text'}")


def _files(path: Path, recursive: bool) -> list[Path]:
    if not path.is_dir():
        return [path]
    names = path.rglob("*") if recursive else path.glob("*")
    return sorted(file for file in names if file.suffix in _SUFFIXES and file.is_file())
