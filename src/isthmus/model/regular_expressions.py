"""Regular expressions that Envoy takes: RE2's."""

from __future__ import annotations

import re
from functools import lru_cache

_LENGTH_MAX = 1024
_REPEATED_MAX = 1000
_REPEATED = re.compile(r"(?<!\\)\{\d+(?:,\d*)?\}")


@lru_cache(maxsize=1024)
def not_re2(text: str) -> str:
    """Why Envoy would refuse it, as far as Python's own expressions can tell; empty for nothing."""
    if len(text) > _LENGTH_MAX:
        return f"{len(text)} characters are more than {_LENGTH_MAX}"
    if re.search(r"\(\?(?:[=!]|<[=!])", text):
        return "RE2 has no look-around"
    if re.search(r"(?<!\\)(?:\\\\)*\\[1-9]", text):
        return "RE2 has no back references"
    if any(int(each[:10]) > _REPEATED_MAX for each in re.findall(r"\d+", " ".join(_REPEATED.findall(text)))):
        return f"RE2 repeats nothing more than {_REPEATED_MAX} times"
    plain = re.sub(r"\(\?P?<([A-Za-z_]\w*)>", r"(?P<\1>", text)
    plain = re.sub(r"\(\?[imsU-]+\)", "", plain)  # RE2 takes flags anywhere, Python at the start only.
    plain = re.sub(r"\\p\{\^?\w+\}|\\P\{\w+\}|\\p[A-Z]|\\P[A-Z]|\\C|\\z|\[\[:\^?\w+:\]\]", "x", plain)
    plain = re.sub(r"\[:\^?\w+:\]", "x", plain)
    try:
        re.compile(plain)
    except (re.error, OverflowError, RecursionError) as error:
        return f"{error}"
    return ""
