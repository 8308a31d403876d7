"""The process as a user starts it: what cannot work is said in a line, and is no traceback."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = "import sys; from isthmus.controlplane.process import main; sys.exit(main())"


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"KUBECONFIG": "/there/is/none"}, "/there/is/none"),
        ({"KUBECONFIG": "/dev/null"}, "kubeconfig"),
        ({}, "KUBECONFIG is not set"),
        ({"KUBECONFIG": "/dev/null", "ISTHMUS_ADS_TRANSPORT": "quic"}, "neither native nor grpc"),
    ],
)
def test_what_cannot_work_is_said_in_a_line(environment, said):
    kept = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}

    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=kept | environment, capture_output=True, text=True, timeout=60
    )

    assert ran.returncode == 1
    assert ran.stderr.startswith("isthmus control-plane: ")
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr
