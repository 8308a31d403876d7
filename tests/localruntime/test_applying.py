"""What is put into a cluster that comes up: a slow server is asked again, a refusal is told, and what is there stays."""

from __future__ import annotations

import pytest

from isthmus.kubernetes.errors import AlreadyExists, ApiUnavailable, Invalid
from isthmus.kubernetes.resources import CONFIG_MAPS
from isthmus.localruntime.applying import NotApplied, apply_objects


class SlowServer:
    """Keeps what it is given; of the first requests of each kind no answer comes in time, though one of them was done."""

    def __init__(self, silent: int) -> None:
        self.kept: list[str] = []
        self._silent = {"resource_of": silent, "create": silent}

    def _answer(self, request: str) -> None:
        self._silent[request] -= 1
        if self._silent[request] >= 0:
            raise ApiUnavailable(f"{request}: Connection timeout to host")

    async def resource_of(self, _version, _kind):
        self._answer("resource_of")
        return CONFIG_MAPS

    async def create(self, _resource, obj, namespace):
        name = f"{namespace}/{obj['metadata']['name']}"
        if name in self.kept:
            raise AlreadyExists("POST", 409, "AlreadyExists", name)
        if name.endswith("wrong"):
            raise Invalid("POST", 422, "Invalid", "no such field")
        self.kept.append(name)
        self._answer("create")


def config_map(name: str):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}


@pytest.mark.parametrize("silent", [0, 2])
async def test_a_server_that_is_silent_for_a_while_gets_everything_once_and_in_order(silent):
    server = SlowServer(silent)

    await apply_objects(server, [config_map(name) for name in ("a", "b", "a", "c")])

    assert server.kept == ["default/a", "default/b", "default/c"]


async def test_a_refusal_is_told_with_its_object():
    with pytest.raises(NotApplied, match="ConfigMap wrong: POST: 422 Invalid: no such field"):
        await apply_objects(SlowServer(0), [config_map("wrong")])
