"""Who is named in an answer, in words."""

from __future__ import annotations

import pytest

from isthmus.assurance.explaining.stories import _endpoint, _workload


@pytest.mark.parametrize(
    ("workload", "address", "endpoint", "who"),
    [
        ("shop/web", "10.0.0.1", "shop/web 10.0.0.1 in east", "shop/web in east"),
        ("", "192.0.2.7", "192.0.2.7 in east", "192.0.2.7 in east"),
        ("", "", "somebody in east", "somebody in east"),
    ],
)
def test_who_is_behind_an_address_is_named_as_far_as_it_is_known(workload, address, endpoint, who):
    told = {"workload": workload, "address": address, "cluster": "east"}

    assert (_endpoint(told), _workload(told)) == (endpoint, who)
