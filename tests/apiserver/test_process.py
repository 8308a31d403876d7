"""What an API server process says when it cannot serve."""

from __future__ import annotations

import json
import socket

import pytest

from isthmus.apiserver.process import main


@pytest.fixture
def taken():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bind": ["TAKEN"]}, "bind: TAKEN cannot be listened on: [Errno 98] Address already in use"),
        ({"bind": ["127.0.0.1"]}, "bind: '127.0.0.1' is not HOST:PORT"),
        ({"bind": ["127.0.0.1:99999"]}, "bind: 127.0.0.1:99999 cannot be listened on: "),
        ({"bind": []}, "bind: name at least one HOST:PORT to listen on"),
        ({"bnid": ["TAKEN"]}, "settings.json: Object contains unknown field `bnid`"),
        ({"directory": 7}, "settings.json: Expected `str`, got `int` - at `$.directory`"),
    ],
)
def test_what_it_cannot_do_is_told_and_leaves_nothing(tmp_path, capsys, taken, change, said):
    wanted = {"clusterId": "east", "directory": str(tmp_path / "state")} | change
    file = tmp_path / "settings.json"
    file.write_text(json.dumps(wanted).replace("TAKEN", taken))

    assert main(str(file)) == 1

    assert said.replace("TAKEN", taken) in capsys.readouterr().err
    assert not (tmp_path / "state").exists()
