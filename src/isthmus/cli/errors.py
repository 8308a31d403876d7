"""Errors as people see them: one line that says what failed, on what, and what to do; and an exit code that scripts can tell apart."""

from __future__ import annotations

from collections.abc import Callable

import click

FAILED, DIFFERENT, BAD_USAGE, BAD_INPUT, FINDINGS, TIMED_OUT = 1, 2, 64, 65, 79, 124


class Failed(click.ClickException):
    """Ends the command with a line for each problem on stderr."""

    def __init__(self, *lines: str, exit_code: int = FAILED) -> None:
        super().__init__("\n".join(lines))
        self.code = exit_code

    def show(self, file: object = None) -> None:
        del file
        for line in self.message.splitlines():
            click.echo(line, err=True)


def run_guarded(command: Callable[[], object], verbose: bool) -> int:
    """The exit code."""
    try:
        result = command()
    except click.UsageError as error:
        error.show()
        return BAD_USAGE
    except Failed as error:
        error.show()
        return error.code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return 130
    except BrokenPipeError:
        return FAILED
    except Exception as error:
        if verbose:
            raise
        click.echo(f"isthmus: {type(error).__name__}: {error} (-v shows where)", err=True)
        return FAILED
    return result if isinstance(result, int) else 0
