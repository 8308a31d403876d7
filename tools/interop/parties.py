"""The two sides: a control plane of ours, and a trust domain of somebody else's. Each is started here, and ended here."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.mesh import create
from bench.processes import api_server, control_plane
from bench.workloads import SYSTEM

from isthmus.api.crds import all_crds
from isthmus.cli.errors import FINDINGS
from isthmus.controlplane.bundle_endpoint import CERTIFICATE, KEY, WEB_PORT
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.kubeconfig import load_file
from isthmus.model.identity import TrustDomain
from isthmus.trust.authority import CertificateAuthority
from isthmus.trust.federation import BUNDLE_PORT

OURS = TrustDomain("ours.example")
OUR_IDENTITY = f"spiffe://{OURS}/ns/istio-system/sa/istiod"
_BIND = "127.0.90.7"
_OUR_REFRESH = "10s"
_LOOK_SECONDS = 0.5
_ISTHMUS = [sys.executable, "-c", "from isthmus.cli.app import main; main()"]

OUR_SPIFFE_URL = f"https://{_BIND}:{BUNDLE_PORT}/"
OUR_WEB_URL = f"https://{_BIND}:{WEB_PORT}/"


class Disagree(Exception):
    """One side does not do what the other one needs: what, and what was said."""


def ran(command: list[str], *, given: str = "", allowed: Collection[int] = (0,)) -> str:
    """What it writes. Raises Disagree with what it says where it fails."""
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode not in allowed:
        raise Disagree(f"{done.stderr.strip()[-600:]}")
    return done.stdout


def until(what: str, look: Callable[[], Any], seconds: float = 60.0) -> Any:
    """The first answer that is one. Raises Disagree."""
    end = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > end:
            raise Disagree(f"{what}: not within {seconds:g} s")
        threading.Event().wait(_LOOK_SECONDS)
    return found


class Ours:
    """A control plane with an API server of its own, as `isthmus` runs them. It publishes with both profiles."""

    def __init__(self, stack: ExitStack, folder: Path, web_roots: Sequence[Path]) -> None:
        """`web_roots` are the authorities by which others' endpoints of https_web are believed."""
        believed = folder / "their-web-roots.pem"
        believed.write_text("".join(each.read_text() for each in web_roots))
        self.web_roots = folder / "our-web-roots.pem"
        web = CertificateAuthority.self_signed(TrustDomain("web.example"), datetime.now(UTC))
        self.web_roots.write_text(web.root_pem)
        shown = web.serving_certificate([_BIND], datetime.now(UTC))
        pages = folder / "pages"
        pages.mkdir()
        (pages / CERTIFICATE).write_text(shown.chain_pem)
        (pages / KEY).write_text(shown.key_pem)
        os.environ |= {
            "TRUST_DOMAIN": str(OURS),
            "ISTHMUS_BUNDLE_CERTIFICATES": str(pages),
            "ISTHMUS_BUNDLE_ROOTS": str(believed),
            "ISTHMUS_BUNDLE_REFRESH_HINT": _OUR_REFRESH,
        }
        server, self._kubeconfig = api_server("ours", folder)
        stack.callback(server.stop)
        asyncio.run(_prepared(self._kubeconfig))
        process = control_plane(self._kubeconfig, "ours", _BIND, folder / "control-plane.log", "")
        stack.callback(process.stop)
        process.until_logged("bundle published", 60.0)

    def isthmus(self, *arguments: str) -> str:
        """What the command writes, as users run it; a finding is no failure. Raises Disagree."""
        return ran([*_ISTHMUS, *arguments, "--kubeconfig", str(self._kubeconfig)], allowed=(0, FINDINGS))

    def exported(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.isthmus("trust", "export", "--trust-domain", str(OURS)))
        return document

    def row(self, domain: str) -> Mapping[str, Any]:
        """What is known of a trust domain's bundle."""
        rows = json.loads(self.isthmus("trust", "bundles", "-o", "json"))["bundles"]
        return next((row for row in rows if row["trustDomain"] == domain), {})

    def has(self, domain: str, state: str, authorities: int) -> Mapping[str, Any]:
        def look() -> Mapping[str, Any]:
            row = self.row(domain)
            return row if (row.get("state"), row.get("authorities")) == (state, authorities) else {}

        try:
            found: Mapping[str, Any] = until(f"{domain}: {state}, {authorities} authorities", look)
        except Disagree as error:
            raise Disagree(f"{error}; it is {dict(self.row(domain))}") from None
        return found


async def _prepared(kubeconfig: Path) -> None:
    """What an installation makes before there is a control plane."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}}
    async with ApiClient(load_file(kubeconfig)) as client:
        await create(client, [*all_crds(), namespace])


class Theirs:
    """A trust domain that publishes its bundle with another implementation's endpoint, one for each profile. It is called as its program is."""

    def __init__(self, stack: ExitStack, program: Path, folder: Path, address: str) -> None:
        self.name = program.name
        self.domain = f"{self.name}.example"
        self._program = str(program)
        self._folder = folder / self.name
        self._folder.mkdir()
        arguments = ["serve", "-trust-domain", self.domain, "-address", address, "-folder", str(self._folder)]
        self._process = subprocess.Popen(
            [self._program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        stack.callback(self._process.wait)
        stack.callback(self._process.terminate)
        told = json.loads(self._line())
        self.identity, self.spiffe_url, self.web_url = told["identity"], told["spiffe"], told["web"]
        self.bundle, self.web_roots = self._folder / "bundle.json", self._folder / "web-roots.pem"

    def do(self, word: str) -> int:
        """How many authorities there are then."""
        assert self._process.stdin is not None, "piped"
        self._process.stdin.write(word + "\n")
        return int(self._line())

    def fetched(self, *arguments: str) -> dict[str, Any]:
        """Another's bundle, as it is understood there. Raises Disagree."""
        document: dict[str, Any] = json.loads(ran([self._program, "fetch", *arguments]))
        return document

    def _line(self) -> str:
        assert self._process.stdout is not None, "piped"
        return self._process.stdout.readline()
