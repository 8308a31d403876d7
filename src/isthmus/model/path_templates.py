"""Paths in which `{*}` stands for one segment, and `{**}` for what is left or stands between."""

from __future__ import annotations

import re

_SEGMENT = r"(?:\{\*\}|\{\*\*\}|[A-Za-z0-9\-._~%!$&'()+,;:@=]+)"
_TEMPLATE = re.compile(f"(?:/{_SEGMENT})+/?")
_AT_MOST = 10


def bad_path_template(text: str) -> str:
    """Why Envoy would not take it, or even crash (1.40, in a rule of access); empty for one that it takes, and for what is no template."""
    if "{" not in text and "}" not in text:
        return ""
    if text.count("{") != text.count("}"):
        return "has an open brace"
    if not _TEMPLATE.fullmatch(text):
        return "is no template: its segments are text, {*} or {**}"
    if "{*" in text.partition("{**}")[2]:
        return "has another wildcard behind {**}"
    return f"has more than {_AT_MOST} wildcards" if text.count("{") > _AT_MOST else ""
