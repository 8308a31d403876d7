"""`isthmus validate`: are these files right, before anything runs them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from isthmus.assurance.catalogue import validation as codes
from isthmus.assurance.validation import problems_of, verdict
from isthmus.assurance.validation.mesh_settings import problems_of_mesh_config, problems_of_mesh_networks
from isthmus.assurance.validation.problems import Problem
from isthmus.cli.analysis_input import from_contexts
from isthmus.cli.contexts import kubeconfig_option
from isthmus.cli.errors import BAD_INPUT, Failed
from isthmus.cli.findings_output import FindingLine, junit, print_findings
from isthmus.cli.object_files import FileObject, objects_in, some_objects_in
from isthmus.cli.suppression import suppress_option, suppressed

_OURS = "isthmus.io/"


@dataclass(frozen=True, slots=True)
class _Judged:
    """One object with what is wrong with it."""

    source: FileObject
    kind: str
    namespace: str
    name: str
    problems: list[Problem]

    @property
    def origin(self) -> str:
        place = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.kind} {place}".strip()


@click.command("validate")
@click.argument("paths", nargs=-1, metavar="[FILE|DIR|-]...")
@click.option("-f", "--filename", "files", multiple=True, metavar="FILE|DIR|-", help="The same as an argument.")
@click.option("-R", "--recursive", is_flag=True, help="Look into folders of folders, too.")
@click.option("--context", "contexts", multiple=True, help="All that a live cluster has; repeatable, or with commas.")
@kubeconfig_option
@click.option("-n", "--namespace", default="", help="Of a live cluster: only objects of this namespace.")
@click.option("--mesh-config", default="", metavar="FILE", help="A MeshConfig to check too.")
@click.option("--mesh-networks", default="", metavar="FILE", help="A MeshNetworks to check too.")
@suppress_option
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json", "junit"]),
    default="text",
    show_default=True,
    help="How to print it.",
)
def validate_command(
    paths: tuple[str, ...],
    files: tuple[str, ...],
    recursive: bool,
    contexts: tuple[str, ...],
    kubeconfig: str,
    namespace: str,
    mesh_config: str,
    mesh_networks: str,
    suppress: tuple[str, ...],
    output: str,
) -> None:
    """Check objects, each by itself: their fields, and what they mean.

    \b
    Examples:
      isthmus validate routes.yaml policies.yaml
      kubectl get virtualservices -A -o yaml | isthmus validate -
      isthmus validate -R manifests/ -o json
      isthmus validate --context east,west -n shop

    Prints a line for each finding: where, how bad, which code, which object and field, what is wrong; what to do. docs/findings.md explains
    the codes. Exit 0 when all objects are valid (warnings are no reason to fail), 65 when one is not.
    """
    sources = [*files, *paths]
    if not sources and not contexts and not mesh_config and not mesh_networks:
        raise click.UsageError("name a file or a folder, - for stdin, or the --context of a live cluster")
    leaves_out = suppressed(suppress)
    judged = [_judged(source) for source in some_objects_in(sources, recursive=recursive)]
    judged += _of_clusters(contexts, kubeconfig, namespace)
    judged += _settings("MeshConfig", mesh_config) + _settings("MeshNetworks", mesh_networks)
    for each in judged:
        each.problems[:] = [problem for problem in each.problems if not leaves_out(problem.code.id, each.origin)]
    if output == "json":
        click.echo(json.dumps(_document(judged), indent=2))
    elif output == "junit":
        click.echo(junit("isthmus validate", [(each.origin, each.source.file, _lines(each)) for each in judged]))
    else:
        print_findings([line for each in judged for line in _lines(each)])
    bad = sum(any(problem.is_error for problem in each.problems) for each in judged)
    unchecked = sum(any(problem.code.id == "ISM0734" for problem in each.problems) for each in judged)
    others = f", {unchecked} of kinds that are not checked" if unchecked else ""
    click.echo(f"{_counted(len(judged), 'object')}: {len(judged) - bad} valid, {bad} not valid{others}", err=True)
    if bad:
        raise click.exceptions.Exit(BAD_INPUT)


def _of_clusters(contexts: Sequence[str], kubeconfig: str, namespace: str) -> list[_Judged]:
    """What live clusters have of the kinds that are checked. A cluster is full of others; nobody asked about those."""
    if not contexts:
        return []
    found = [
        _judged(replace(source, file=cluster))
        for cluster, sources in from_contexts(contexts, kubeconfig).clusters.items()
        for source in sources
    ]
    return [
        each
        for each in found
        if namespace in ("", each.namespace) and all(problem.code is not codes.NOT_CHECKED for problem in each.problems)
    ]


def _judged(source: FileObject) -> _Judged:
    value = source.value
    problems = _of_topology(source) if _is_topology(value) and source.file != "stdin" else problems_of(value)
    names: dict[str, Any] = {}
    if isinstance(value, dict) and isinstance(value.get("metadata"), dict):
        names = value["metadata"]
    kind = value.get("kind", "") if isinstance(value, dict) else ""
    return _Judged(source, str(kind or ""), str(names.get("namespace") or ""), str(names.get("name") or ""), problems)


def _is_topology(value: Any) -> bool:
    return isinstance(value, dict) and value.get("kind") == "Topology" and _OURS in str(value.get("apiVersion"))


def _of_topology(source: FileObject) -> list[Problem]:
    """By the same checks as `isthmus up` makes."""
    from isthmus.localruntime.marked_yaml import BadInput
    from isthmus.localruntime.topology import load

    try:
        load(Path(source.file))
    except BadInput as error:
        return [Problem(codes.MALFORMED, found.field or "$", found.what, found.fix) for found in error.findings]
    return []


def _settings(kind: str, file: str) -> list[_Judged]:
    if not file:
        return []
    judge = problems_of_mesh_config if kind == "MeshConfig" else problems_of_mesh_networks
    found = objects_in([file], recursive=False)
    if len(found) > 1:
        raise Failed(f"{file}: is not one {kind}, but {len(found)} documents", exit_code=BAD_INPUT)
    return [_Judged(source, kind, "", file, list(judge(source.value))) for source in found]


def _lines(judged: _Judged) -> Sequence[FindingLine]:
    return [
        FindingLine(
            reference=judged.source.reference_of(problem.path),
            severity=problem.code.severity,
            code=problem.code.id,
            origin=judged.origin,
            message=str(problem),
            fix=problem.fix,
        )
        for problem in judged.problems
    ]


def _document(judged: Sequence[_Judged]) -> dict[str, Any]:
    """One result for each object; all errors and warnings with their object before them."""
    results = []
    lines: dict[str, list[str]] = {"errors": [], "warnings": []}
    for each in judged:
        found = verdict(each.problems)
        for finding, problem in zip(found["findings"], each.problems, strict=True):
            finding["reference"] = each.source.reference_of(problem.path)
        results.append(
            {"kind": each.kind, "namespace": each.namespace, "name": each.name, "reference": each.source.reference}
            | found
        )
        for level, said in lines.items():
            said += [f"{each.origin}: {line}" for line in found[level]]
    return {"schemaVersion": "1", "valid": not lines["errors"], **lines, "results": results}


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
