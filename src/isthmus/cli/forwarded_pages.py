"""Pages of a control plane or an Envoy whose port is forwarded to this machine, as `kubectl port-forward` does it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

from isthmus.cli.errors import BAD_USAGE, Failed

_SECONDS = 30.0

control_plane = click.option(
    "--control-plane", metavar="URL", default="", help="Ask this control plane's debug pages (a forwarded 15014)."
)


def pages_at(url: str, option: str) -> Callable[[str], Any]:
    """What a page says, by its path; all of them are JSON. `option` is where the user wrote the URL. Raises Failed, as each page does."""
    import urllib.error
    import urllib.request

    if not url.startswith(("http://", "https://")):
        raise Failed(f"{option} {url}: write it as http://HOST:PORT", exit_code=BAD_USAGE)

    def page(path: str) -> Any:
        try:
            with urllib.request.urlopen(f"{url.rstrip('/')}/{path}", timeout=_SECONDS) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise Failed(error.read().decode(errors="replace").strip() or str(error)) from None
        except (OSError, ValueError) as error:
            raise Failed(f"{url} does not answer: {error}") from None

    return page
