"""The Dockerfile, as far as it can be judged without building it: what it copies is there, what it runs exists, and nobody is root."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import click
import pytest

from isthmus.cli.app import isthmus
from isthmus.injection.sidecar import USER

ROOT = Path(__file__).parents[2]
STAGES = ("control-plane", "proxy", "gateway")


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    lines = (line.strip() for line in text.splitlines())
    return [
        (line.split(" ", 1)[0], line.split(" ", 1)[1].strip()) for line in lines if line and not line.startswith("#")
    ]


def stages() -> dict[str, list[tuple[str, str]]]:
    """The instructions of each stage, with those of the stages that it begins with before them."""
    found: dict[str, list[tuple[str, str]]] = {}
    current: list[tuple[str, str]] = []
    for word, rest in instructions():
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            current = found[name] = list(found.get(base, []))
        else:
            current.append((word, rest))
    return found


def last(stage: str, word: str) -> str:
    return [rest for found, rest in stages()[stage] if found == word][-1]


def test_images_begin_with_one_public_image_and_with_one_another():
    bases = {rest.partition(" AS ")[0] for word, rest in instructions() if word == "FROM"}

    assert bases - stages().keys() == {"python:3.11-slim"}
    assert set(STAGES) <= stages().keys()


def test_what_is_copied_is_there_and_not_ignored():
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for word, rest in instructions():
        sources = rest.split()[:-1]
        if word == "COPY" and not rest.startswith("--from="):
            for source in sources:
                assert (ROOT / source).exists(), source
                assert source in allowed, source
        elif word == "COPY":
            assert sources[0].removeprefix("--from=") in stages()


def test_dependencies_are_the_locked_ones():
    installs = [rest for word, rest in instructions() if word == "RUN" and " install " in rest and "pip" in rest]

    assert len(installs) == 2
    assert "--require-hashes -r requirements/runtime.lock" in installs[0]
    assert "--no-deps --no-build-isolation" in installs[1]


@pytest.mark.parametrize("stage", STAGES)
def test_a_change_of_the_source_is_a_layer_of_its_own_after_the_dependencies(stage):
    copies = [rest for word, rest in stages()[stage] if word == "COPY"]

    assert copies[-1] == "--from=own /opt/own /opt/isthmus"
    assert [rest for rest in copies if "src" in rest.split()] == []


def test_what_only_builds_is_in_no_image():
    """The base's own pip fills the environment, which has none, and setuptools goes before anything is copied from it."""
    made = [rest for _, rest in stages()["dependencies"] if "venv" in rest]
    assert all("--without-pip" in rest for rest in made if "-m venv" in rest)

    for stage in STAGES:
        (source,) = {
            rest.split()[0].removeprefix("--from=")
            for word, rest in stages()[stage]
            if word == "COPY" and rest.endswith("/opt/isthmus /opt/isthmus")
        }
        assert any("uninstall" in rest and "setuptools" in rest for _, rest in stages()[source]), source


@pytest.mark.parametrize("stage", STAGES)
def test_nobody_is_root(stage):
    assert last(stage, "USER") == f"{USER}:{USER}"
    made = next(rest for word, rest in stages()[stage] if word == "RUN" and "useradd" in rest)
    assert f"--uid {USER}" in made


@pytest.mark.parametrize("stage", STAGES)
def test_what_is_run_exists(stage):
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert json.loads(last(stage, "ENTRYPOINT")) == ["isthmus"]
    assert "isthmus" in scripts

    command, *arguments = json.loads(last(stage, "CMD"))

    found = isthmus.get_command(click.Context(isthmus), command)
    assert found is not None
    found.make_context(command, list(arguments))


def test_the_capture_containers_program_is_in_the_proxys_image():
    assert any("nftables" in rest for word, rest in stages()["proxy"] if word == "RUN")
    assert not any("nftables" in rest for word, rest in stages()["control-plane"] if word == "RUN")


def test_an_installed_package_has_all_that_lies_beside_the_source(tmp_path):
    """Images have no checkout: what is not in the wheel is not there."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
    ]
    copy = tmp_path / "source"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (copy / name).write_bytes((ROOT / name).read_bytes())
    shutil.copytree(ROOT / "src" / "isthmus", copy / "src" / "isthmus")
    done = subprocess.run([*command, str(copy)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr

    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    source = ROOT / "src"
    wanted = {
        str(path.relative_to(source))
        for path in (source / "isthmus").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert wanted - inside == set()
