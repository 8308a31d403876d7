"""python -m interop PROGRAM...: see `make interop` and docs/trust.md. Each program is another implementation (tools/interop/party).

Each line is something that one side did with what the other one gives, and what came of it. The exit code is 1 if anything failed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.processes import BenchFailed

from interop.parties import OUR_IDENTITY, OUR_SPIFFE_URL, OUR_WEB_URL, OURS, Disagree, Ours, Theirs, until

Check = tuple[str, Callable[[], str]]


def _authorities(document: dict[str, Any]) -> set[str]:
    return {each["x5c"][0] for each in document["keys"] if each.get("use") == "x509-svid"}


def _equal(theirs: dict[str, Any], exported: dict[str, Any]) -> str:
    """In words, if it is the same bundle. Raises Disagree."""
    if not _authorities(theirs) or _authorities(theirs) != _authorities(exported):
        raise Disagree(f"{_authorities(theirs)} is not {_authorities(exported)}")
    return f"{len(_authorities(theirs))} authorities, sequence {theirs.get('spiffe_sequence')}, hint {theirs.get('spiffe_refresh_hint')} s"


def _refused(act: Callable[[], object]) -> str:
    """Why. Raises Disagree where it is not."""
    try:
        act()
    except Disagree as error:
        return f"refused: {str(error).splitlines()[-1][-110:]}"
    raise Disagree("it was accepted")


def _they_fetch(ours: Ours, they: Theirs, folder: Path) -> Iterator[Check]:
    known = folder / "ours.json"
    known.write_text(ours.isthmus("trust", "export", "--trust-domain", str(OURS)))
    domain = ("-trust-domain", str(OURS))
    web = (*domain, "-url", OUR_WEB_URL, "-web-roots")
    spiffe = (*domain, "-url", OUR_SPIFFE_URL, "-identity")

    yield (
        f"{they.name} fetches ours by https_web",
        lambda: _equal(they.fetched(*web, str(ours.web_roots)), ours.exported()),
    )
    yield (
        f"{they.name} fetches ours by https_spiffe",
        lambda: _equal(they.fetched(*spiffe, OUR_IDENTITY, "-bundle", str(known)), ours.exported()),
    )
    yield (
        f"{they.name} asks by https_web with other roots",
        lambda: _refused(lambda: they.fetched(*web, str(they.web_roots))),
    )
    yield (
        f"{they.name} expects another identity of ours",
        lambda: _refused(lambda: they.fetched(*spiffe, f"spiffe://{OURS}/other", "-bundle", str(known))),
    )
    yield (
        f"{they.name} asks by https_spiffe with another's bundle",
        lambda: _refused(
            lambda: they.fetched(
                *spiffe, f"spiffe://{they.domain}/ns/istio-system/sa/istiod", "-bundle", str(they.bundle)
            )
        ),
    )


def _they_are_followed(ours: Ours, they: Theirs) -> Iterator[Check]:
    domain = ("--trust-domain", they.domain)

    def follow(*way: str) -> None:
        ours.isthmus("trust", "follow", *domain, *way)

    def by_web() -> str:
        follow("--url", they.web_url)
        row = ours.has(they.domain, "current", 1)
        return f"{row['authorities']} authority, sequence {row['sequence']}, hint {row['refreshHintSeconds']} s"

    def by_spiffe() -> str:
        ours.isthmus("trust", "forget", *domain)
        until("it is forgotten", lambda: not ours.row(they.domain))
        ours.isthmus("trust", "import", str(they.bundle), *domain)
        follow("--url", they.spiffe_url, "--identity", they.identity)
        row = until("it is fetched", lambda: _fetched(ours, they.domain))
        return f"{row['authorities']} authority, sequence {row['sequence']}"

    def changed(word: str) -> str:
        row = ours.has(they.domain, "current", they.do(word))
        return f"{row['authorities']} authorities, sequence {row['sequence']}"

    def went_back() -> str:
        count = they.do("back")
        row = ours.has(they.domain, "stale", count - 1)
        return f"{row['refusal']}; {row['authorities']} authorities go on"

    def another_identity() -> str:
        follow("--url", they.spiffe_url, "--identity", f"spiffe://{they.domain}/other")
        row = until("it is refused", lambda: _refusal(ours, they.domain, "not-authenticated"))
        return f"{row['refusal']}: {row['problem'][:90]}"

    yield f"ours follows {they.name} by https_web", by_web
    yield f"ours follows {they.name} by https_spiffe", by_spiffe
    yield f"{they.name} adds an authority", lambda: changed("add")
    yield f"{they.name} withdraws an authority", lambda: changed("drop")
    yield f"{they.name}'s sequence goes back", went_back
    yield f"ours expects another identity of {they.name}", another_identity


def _fetched(ours: Ours, domain: str) -> Any:
    row = ours.row(domain)
    return row if row.get("state") == "current" and row.get("sequence") else None


def _refusal(ours: Ours, domain: str, word: str) -> Any:
    row = ours.row(domain)
    return row if row.get("refusal") == word else None


def _goes(check: Check) -> bool:
    what, act = check
    try:
        seen = act()
    except Disagree as error:
        sys.stdout.write(f"FAILED  {what}\n        {error}\n")
        return False
    sys.stdout.write(f"ok      {what:<54} {seen}\n")
    return True


def main() -> int:
    options = argparse.ArgumentParser(prog="interop")
    options.add_argument("programs", type=Path, nargs="+", help="other implementations, built")
    said = options.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="interop-")))
        try:
            them = [
                Theirs(stack, program, folder, f"127.0.90.{place}") for place, program in enumerate(said.programs, 8)
            ]
            ours = Ours(stack, folder, [they.web_roots for they in them])
            checks = [
                check for they in them for check in (*_they_fetch(ours, they, folder), *_they_are_followed(ours, they))
            ]
        except (BenchFailed, Disagree) as error:
            sys.stderr.write(f"{error}\n")
            return 1
        failed = sum(not _goes(check) for check in checks)
        return 1 if failed else 0


sys.exit(main())
