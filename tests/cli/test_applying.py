"""What `isthmus install --wait` waits for: what `kubectl rollout status` calls rolled out. How it bears a silent server, as uninstall does."""

from __future__ import annotations

from typing import Any

import pytest

from isthmus.cli.applying import answered, has_rolled_out
from isthmus.kubernetes.errors import ApiUnavailable


def deployment(wanted: int | None = 2, **status: int) -> dict[str, Any]:
    """Of its second version, with two Pods of it that serve."""
    full = {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}
    spec = {} if wanted is None else {"replicas": wanted}
    return {"metadata": {"generation": 2}, "spec": spec, "status": full | status}


def test_a_deployment_has_rolled_out_when_all_its_pods_are_new_and_serve():
    assert has_rolled_out(deployment())


@pytest.mark.parametrize(
    "status",
    [
        pytest.param({"observedGeneration": 1}, id="nobody has looked at the new version yet"),
        pytest.param({"updatedReplicas": 1}, id="a new Pod is missing"),
        pytest.param({"replicas": 3}, id="an old Pod still serves"),
        pytest.param({"availableReplicas": 1}, id="a new Pod does not serve yet"),
    ],
)
def test_it_has_not_before(status):
    assert not has_rolled_out(deployment(**status))


def test_without_a_number_of_replicas_one_is_wanted():
    one = {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}
    assert has_rolled_out(deployment(None, **one))
    assert not has_rolled_out(deployment(None, **dict.fromkeys(one, 0)))


def test_one_without_a_status_has_not():
    assert not has_rolled_out({"metadata": {"generation": 1}, "spec": {"replicas": 1}})


class SilentServer:
    """Answers after so many silences."""

    def __init__(self, silences: int) -> None:
        self.silences = silences

    async def delete(self) -> str:
        if self.silences:
            self.silences -= 1
            raise ApiUnavailable("DELETE /a: TimeoutError")
        return "deleted"


@pytest.mark.looptime
async def test_a_server_that_is_silent_for_a_while_is_asked_again():
    assert await answered(SilentServer(4).delete) == "deleted"


@pytest.mark.looptime
async def test_one_that_stays_silent_is_given_up():
    with pytest.raises(ApiUnavailable, match="TimeoutError"):
        await answered(SilentServer(5).delete)
