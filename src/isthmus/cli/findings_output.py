"""Findings as people and test runners read them: a line each that an editor can jump to, or JUnit XML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

import click

from isthmus.model.issues import Severity

_COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.INFO: "cyan"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingLine:
    """One finding, ready to be shown."""

    reference: str
    severity: Severity
    code: str
    origin: str
    message: str
    fix: str

    @property
    def level(self) -> str:
        return self.severity.name.title()


def print_findings(lines: Iterable[FindingLine]) -> None:
    """`FILE:LINE: Level CODE KIND NAMESPACE/NAME: what; fix`. Click takes the colour away where nobody sees it."""
    for line in lines:
        level = click.style(f"{line.level} {line.code}", fg=_COLOURS[line.severity])
        where = f"{line.reference}: " if line.reference else ""
        who = f" {line.origin}" if line.origin else ""
        click.echo(f"{where}{level}{who}: {line.message}; {line.fix[:1].lower()}{line.fix[1:]}")


def junit(suite: str, cases: Sequence[tuple[str, str, Sequence[FindingLine]]]) -> str:
    """A test case for each object (its origin, its file, its findings); one with errors has failed."""
    failed = sum(any(line.severity is Severity.ERROR for line in lines) for _, _, lines in cases)
    root = ElementTree.Element("testsuite", name=suite, tests=str(len(cases)), failures=str(failed))
    for origin, file, lines in cases:
        case = ElementTree.SubElement(root, "testcase", name=_printable(origin), classname=_printable(file))
        errors = [line for line in lines if line.severity is Severity.ERROR]
        if errors:
            failure = ElementTree.SubElement(
                case, "failure", message=_printable(f"{errors[0].code} {errors[0].message}")
            )
            failure.text = "\n".join(_shown(line) for line in errors)
        others = [line for line in lines if line.severity is not Severity.ERROR]
        if others:
            ElementTree.SubElement(case, "system-out").text = "\n".join(_shown(line) for line in others)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode")


def _shown(line: FindingLine) -> str:
    return _printable(f"{line.reference}: {line.level} {line.code} {line.message}; {line.fix}")


def _printable(text: str) -> str:
    """XML 1.0 has no control characters."""
    return "".join(char if char >= " " or char in "\t\n" else "�" for char in text)
