"""What the local runtime puts into every cluster."""

from __future__ import annotations

import pytest

from isthmus.api.registry import KINDS
from isthmus.localruntime.manifests import _control_plane_rules


@pytest.mark.parametrize("key", KINDS)
def test_a_control_plane_may_read_every_kind_that_it_watches(key):
    """A kind that it may not watch keeps it waiting for ever."""
    kind = KINDS[key]

    allowed = {
        verb
        for rule in _control_plane_rules()
        if kind.group in rule["apiGroups"] and {kind.plural, "*"} & set(rule["resources"])
        for verb in rule["verbs"]
    }

    assert {"get", "list", "watch"} <= allowed
