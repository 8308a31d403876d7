"""client: does nothing until somebody runs a command in it, as `isthmus exec` does."""

from __future__ import annotations

import signal

if __name__ == "__main__":
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
