"""Runs `ip`, `nft` and their kind: the one place where the runtime changes the kernel's network state."""

from __future__ import annotations

import asyncio


class CommandFailed(Exception):
    """A system command refused: which, and its own words."""


async def run(*command: str, text: str = "") -> str:
    """The command's output. Raises CommandFailed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE if text else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate(text.encode() if text else None)
    if process.returncode:
        raise CommandFailed(f"{' '.join(command)} failed: {output.decode(errors='replace').strip()}")
    return output.decode(errors="replace")


async def ip_batch(lines: list[str], *, namespace: str = "") -> None:
    """Many `ip` commands in one process, in order."""
    where = ["-netns", namespace] if namespace else []
    await run("ip", *where, "-batch", "-", text="\n".join(lines) + "\n")


async def nft(rules: str, *, namespace: str = "") -> None:
    """A rule set, applied as a whole or not at all."""
    inside = ["ip", "netns", "exec", namespace] if namespace else []
    await run(*inside, "nft", "-f", "-", text=rules)
