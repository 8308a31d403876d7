"""`--suppress CODE` and `--suppress 'CODE=KIND NAMESPACE/NAME'`: findings that are meant to be so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

import click

from isthmus.cli.errors import BAD_USAGE, Failed

suppress_option = click.option(
    "--suppress",
    multiple=True,
    metavar="CODE[=ORIGIN]",
    help="Leave findings of a code out, or of one object only ('IST0130=VirtualService shop/*'); repeatable.",
)


def suppressed(rules: Sequence[str]) -> Callable[[str, str], bool]:
    """Whether a finding is left out, by its code and its origin (`KIND NAMESPACE/NAME`). Raises Failed for a rule that is none."""
    pairs = []
    for rule in rules:
        code, separator, origin = rule.partition("=")
        if not code or (separator and not origin):
            raise Failed(f"--suppress {rule}: write it as CODE or 'CODE=KIND NAMESPACE/NAME'", exit_code=BAD_USAGE)
        pairs.append((code, origin or "*"))
    return lambda code, origin: any(
        fnmatchcase(code, wanted) and fnmatchcase(origin, pattern) for wanted, pattern in pairs
    )
