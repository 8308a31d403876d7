"""python -m interop FOREIGN [--spire SPIRE_SERVER]: see `make interop` and docs/trust.md.

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

from interop.parties import OUR_IDENTITY, OUR_SPIFFE_URL, OUR_WEB_URL, OURS, Disagree, GoSpiffe, Ours, Spire, until

Check = tuple[str, Callable[[], str]]


def _authorities(document: dict[str, Any]) -> set[str]:
    return {each["x5c"][0] for each in document["keys"] if each.get("use") == "x509-svid"}


def _equal(theirs: dict[str, Any], exported: dict[str, Any]) -> str:
    """In words, if it is the same bundle. Raises Disagree."""
    if not _authorities(theirs) or _authorities(theirs) != _authorities(exported):
        raise Disagree(f"{_authorities(theirs)} is not {_authorities(exported)}")
    return f"{len(_authorities(theirs))} authorities, sequence {theirs['spiffe_sequence']}, hint {theirs['spiffe_refresh_hint']} s"


def _refused(act: Callable[[], object]) -> str:
    """Why. Raises Disagree where it is not."""
    try:
        act()
    except Disagree as error:
        return f"refused: {str(error).splitlines()[-1][-110:]}"
    raise Disagree("it was accepted")


def _go_spiffe_fetches(ours: Ours, go: GoSpiffe, folder: Path) -> Iterator[Check]:
    known = folder / "ours.json"
    known.write_text(ours.isthmus("trust", "export", "--trust-domain", str(OURS)))
    domain = ("-trust-domain", str(OURS))
    web = (*domain, "-url", OUR_WEB_URL, "-web-roots")
    spiffe = (*domain, "-url", OUR_SPIFFE_URL, "-identity")

    yield "go-spiffe fetches ours by https_web", lambda: _equal(go.fetched(*web, str(ours.web_roots)), ours.exported())
    yield (
        "go-spiffe fetches ours by https_spiffe",
        lambda: _equal(go.fetched(*spiffe, OUR_IDENTITY, "-bundle", str(known)), ours.exported()),
    )
    yield "go-spiffe asks by https_web with other roots", lambda: _refused(lambda: go.fetched(*web, str(go.web_roots)))
    yield (
        "go-spiffe expects another identity of ours",
        lambda: _refused(lambda: go.fetched(*spiffe, f"spiffe://{OURS}/other", "-bundle", str(known))),
    )
    yield (
        "go-spiffe asks by https_spiffe with another's bundle",
        lambda: _refused(
            lambda: go.fetched(*spiffe, f"spiffe://{go.domain}/ns/istio-system/sa/istiod", "-bundle", str(go.bundle))
        ),
    )


def _go_spiffe_is_followed(ours: Ours, go: GoSpiffe) -> Iterator[Check]:
    domain = ("--trust-domain", go.domain)

    def follow(*way: str) -> None:
        ours.isthmus("trust", "follow", *domain, *way)

    def by_web() -> str:
        follow("--url", go.web_url)
        row = ours.has(go.domain, "current", 1)
        return f"{row['authorities']} authority, sequence {row['sequence']}, hint {row['refreshHintSeconds']} s"

    def by_spiffe() -> str:
        ours.isthmus("trust", "forget", *domain)
        until("it is forgotten", lambda: not ours.row(go.domain))
        ours.isthmus("trust", "import", str(go.bundle), *domain)
        follow("--url", go.spiffe_url, "--identity", go.identity)
        row = until("it is fetched", lambda: _fetched(ours, go.domain))
        return f"{row['authorities']} authority, sequence {row['sequence']}"

    def changed(word: str) -> str:
        row = ours.has(go.domain, "current", go.do(word))
        return f"{row['authorities']} authorities, sequence {row['sequence']}"

    def went_back() -> str:
        count = go.do("back")
        row = ours.has(go.domain, "stale", count - 1)
        return f"{row['refusal']}; {row['authorities']} authorities go on"

    def another_identity() -> str:
        follow("--url", go.spiffe_url, "--identity", f"spiffe://{go.domain}/other")
        row = until("it is refused", lambda: _refusal(ours, go.domain, "not-authenticated"))
        return f"{row['refusal']}: {row['problem'][:90]}"

    yield "ours follows go-spiffe by https_web", by_web
    yield "ours follows go-spiffe by https_spiffe", by_spiffe
    yield "go-spiffe adds an authority", lambda: changed("add")
    yield "go-spiffe withdraws an authority", lambda: changed("drop")
    yield "go-spiffe's sequence goes back", went_back
    yield "ours expects another identity of go-spiffe", another_identity


def _fetched(ours: Ours, domain: str) -> Any:
    row = ours.row(domain)
    return row if row.get("state") == "current" and row.get("sequence") else None


def _refusal(ours: Ours, domain: str, word: str) -> Any:
    row = ours.row(domain)
    return row if row.get("refusal") == word else None


def _spire_and_ours(ours: Ours, spire: Spire, folder: Path) -> Iterator[Check]:
    domain = ("--trust-domain", spire.domain)

    def told() -> str:
        first = ours.exported()
        del first["spiffe_sequence"]
        spire.told(first)
        return _equal(until("SPIRE has fetched it", lambda: _with_sequence(spire)), ours.exported())

    def followed() -> str:
        first = folder / "spire.json"
        first.write_text(spire.own())
        ours.isthmus("trust", "import", str(first), *domain)
        ours.isthmus("trust", "follow", *domain, "--url", spire.url, "--identity", spire.identity)
        row = until("it is fetched", lambda: _fetched(ours, spire.domain))
        return f"{row['authorities']} authority, sequence {row['sequence']}, hint {row['refreshHintSeconds']} s"

    def prepared() -> str:
        spire.prepare()
        return f"{ours.has(spire.domain, 'current', 2)['authorities']} authorities"

    def prepared_here() -> str:
        ours.isthmus("trust", "prepare")
        until("SPIRE has both", lambda: len(_authorities(spire.of_ours())) == 2)
        return _equal(spire.of_ours(), ours.exported())

    yield "SPIRE fetches ours by https_spiffe", told
    yield "ours follows SPIRE by https_spiffe", followed
    yield "SPIRE prepares another authority", prepared
    yield "ours prepares another root", prepared_here


def _with_sequence(spire: Spire) -> Any:
    document = spire.of_ours()
    return document if document.get("spiffe_sequence") else None


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
    options.add_argument("foreign", type=Path, help="the program in tools/interop/foreign, built")
    options.add_argument("--spire", type=Path, help="spire-server")
    said = options.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="interop-")))
        try:
            go = GoSpiffe(stack, said.foreign, folder)
            ours = Ours(stack, folder, go.web_roots)
            checks = [*_go_spiffe_fetches(ours, go, folder), *_go_spiffe_is_followed(ours, go)]
            if said.spire:
                spire = Spire(stack, said.spire, folder)
                sys.stdout.write(f"SPIRE {spire.version}\n")
                checks += _spire_and_ours(ours, spire, folder)
        except (BenchFailed, Disagree) as error:
            sys.stderr.write(f"{error}\n")
            return 1
        failed = sum(not _goes(check) for check in checks)
        return 1 if failed else 0


sys.exit(main())
