"""Objects that cannot be are refused by every server with the same words. refusals.yaml has them, as a real server answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

REFUSALS = yaml.safe_load((Path(__file__).parent / "refusals.yaml").read_text())
KINDS = sorted({each["to"].rpartition("/")[2] for each in REFUSALS})


@pytest.mark.parametrize("kind", KINDS)
async def test_what_cannot_be_is_refused_with_its_reason(server: Any, namespace: str, kind: str) -> None:
    wanted = [each for each in REFUSALS if each["to"].rpartition("/")[2] == kind]

    answers = [
        await server.call("POST", each["to"].replace("NAMESPACE", namespace), each["object"], dryRun="All")
        for each in wanted
    ]

    assert [(answer.code, answer.body["message"]) for answer in answers] == [
        (each["code"], each["message"]) for each in wanted
    ]


@pytest.mark.parametrize(
    ("collection", "field", "text"),
    [
        ("configmaps", "data", "x" * 1_048_577),
        ("secrets", "data", "QUFB" * 349_526),
        ("configmaps", "annotations", "x" * 262_145),
    ],
    ids=["a ConfigMap", "a Secret", "annotations"],
)
async def test_there_is_a_limit_to_texts(server: Any, namespace: str, collection: str, field: str, text: str) -> None:
    body: dict[str, Any] = {"metadata": {"name": "large"}}
    (body["metadata"] if field == "annotations" else body)[field] = {"a": text}

    refused = await server.call("POST", f"/api/v1/namespaces/{namespace}/{collection}", body)

    assert refused.code == 422
    assert "Too long" in refused.body["message"]
