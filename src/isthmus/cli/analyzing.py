"""`isthmus analyze`: do these objects fit together, in one cluster and over several."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click

from isthmus.assurance.analysis.analyzing import analyze
from isthmus.assurance.analysis.messages import message_of, origin_of
from isthmus.cli.analysis_input import (
    References,
    Sources,
    add_files,
    from_clusters,
    from_contexts,
    from_files,
    from_scenario,
    one_document,
)
from isthmus.cli.contexts import kubeconfig_option
from isthmus.cli.errors import BAD_USAGE, FINDINGS, Failed
from isthmus.cli.findings_output import FindingLine, junit, print_findings
from isthmus.cli.suppression import suppress_option, suppressed
from isthmus.model.issues import Issue, Severity

_LEVELS = {level.name.title(): level for level in Severity}


@click.command("analyze")
@click.argument("paths", nargs=-1, metavar="[FILE|DIR|-]...")
@click.option("-f", "--filename", "files", multiple=True, metavar="FILE|DIR|-", help="The same as an argument.")
@click.option("-R", "--recursive", is_flag=True, help="Look into folders of folders, too.")
@click.option(
    "--context",
    "contexts",
    multiple=True,
    help="A live cluster; repeatable, or with commas. The first one's configuration counts.",
)
@kubeconfig_option
@click.option(
    "--cluster", "clusters", multiple=True, metavar="ID=FILE|DIR|context:CTX", help="One cluster's objects; repeatable."
)
@click.option("--scenario", default="", metavar="FILE", help="The whole mesh in one file.")
@click.option("--config-cluster", default="", metavar="ID", help="Whose configuration counts; the first by default.")
@click.option("--mesh-config", default="", metavar="FILE", help="Istio's MeshConfig; else the ConfigMap istio counts.")
@click.option("--mesh-networks", default="", metavar="FILE", help="Istio's MeshNetworks.")
@click.option("-n", "--namespace", default="", help="Only findings about objects of this namespace.")
@click.option("-A", "--all-namespaces", is_flag=True, help="Findings of all namespaces (the default).")
@suppress_option
@click.option(
    "--failure-threshold",
    type=click.Choice(list(_LEVELS), case_sensitive=False),
    default="Error",
    show_default=True,
    help="The level from which findings make the command fail.",
)
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json", "yaml", "junit"]),
    default="text",
    show_default=True,
    help="How to print it.",
)
def analyze_command(
    paths: Sequence[str], files: Sequence[str], recursive: bool, output: str, failure_threshold: str, **options: Any
) -> None:
    """Find what does not fit together: references that lead nowhere, rules without effect, clusters that disagree.

    \b
    Examples:
      isthmus analyze -R manifests/
      isthmus analyze --context east,west
      isthmus analyze --context east new-routes.yaml
      isthmus analyze --cluster east=east/ --cluster west=west/ --failure-threshold Warning -o junit

    Looks at files, at live clusters, or at both: then the files count as if they were applied to the first cluster. docs/findings.md explains
    the codes. Exit 0 without findings at or above --failure-threshold, 79 with some.
    """
    sources = _sources([*files, *paths], recursive, options)
    leaves_out = suppressed(options["suppress"])
    found = [
        issue
        for issue in analyze(sources.question())
        if not leaves_out(issue.code, origin_of(issue.subject)) and _is_shown(issue, options)
    ]
    references = References(sources.clusters)
    if output == "text":
        print_findings(_lines(found, references, several=len(sources.clusters) > 1))
    elif output == "junit":
        click.echo(junit("isthmus analyze", _cases(sources, found, references)))
    else:
        _print_document({"schemaVersion": "1", "messages": [message_of(issue, references) for issue in found]}, output)
    _print_summary(sources, found)
    threshold = _LEVELS[failure_threshold.title()]
    if any(issue.severity >= threshold for issue in found):
        raise click.exceptions.Exit(FINDINGS)


def _sources(files: Sequence[str], recursive: bool, options: dict[str, Any]) -> Sources:
    """Raises Failed, or a usage error when it is not clear what is to be looked at."""
    ways = [name for name in ("scenario", "clusters", "contexts") if options[name]]
    if len(ways) > 1:
        raise click.UsageError(
            "--scenario, --cluster and --context exclude each other (a --cluster may be context:NAME)"
        )
    if options["scenario"]:
        sources = from_scenario(options["scenario"])
    elif options["clusters"]:
        sources = from_clusters(options["clusters"], options["kubeconfig"])
    elif options["contexts"]:
        sources = from_contexts(options["contexts"], options["kubeconfig"])
    elif files:
        sources = from_files(files, recursive)
    else:
        raise click.UsageError("name files or folders, --context, --cluster or --scenario")
    if files and ways:
        add_files(sources, files, recursive)
    sources.config_cluster = options["config_cluster"] or sources.config_cluster
    if sources.config_cluster and sources.config_cluster not in sources.clusters:
        there = ", ".join(sources.clusters)
        raise Failed(f"--config-cluster {sources.config_cluster}: there is: {there}", exit_code=BAD_USAGE)
    sources.mesh_config = one_document(options["mesh_config"], "MeshConfig") or sources.mesh_config
    sources.mesh_networks = one_document(options["mesh_networks"], "MeshNetworks") or sources.mesh_networks
    return sources


def _is_shown(issue: Issue, options: dict[str, Any]) -> bool:
    wanted = options["namespace"]
    return options["all_namespaces"] or not wanted or issue.subject.namespace in (wanted, "")


def _lines(found: Sequence[Issue], references: References, *, several: bool) -> list[FindingLine]:
    return [
        FindingLine(
            reference=references(issue),
            severity=issue.severity,
            code=issue.code,
            origin=origin_of(issue.subject)
            + (f" in {issue.subject.cluster}" if several and issue.subject.cluster else ""),
            message=issue.what,
            fix=issue.fix,
        )
        for issue in found
    ]


def _cases(
    sources: Sources, found: Sequence[Issue], references: References
) -> list[tuple[str, str, Sequence[FindingLine]]]:
    """A case for each object that something is said about, and one for all others together."""
    by_object: dict[tuple[str, str], list[Issue]] = {}
    for issue in found:
        by_object.setdefault((origin_of(issue.subject), issue.subject.cluster), []).append(issue)
    cases: list[tuple[str, str, Sequence[FindingLine]]] = [
        (origin, cluster, _lines(issues, references, several=False)) for (origin, cluster), issues in by_object.items()
    ]
    total = sum(map(len, sources.clusters.values()))
    return [*cases, (f"{max(total - len(by_object), 0)} other objects", "isthmus analyze", [])]


def _print_document(document: dict[str, Any], output: str) -> None:
    if output == "json":
        click.echo(json.dumps(document, indent=2))
        return
    import yaml

    click.echo(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), nl=False)


def _print_summary(sources: Sources, found: Sequence[Issue]) -> None:
    objects = sum(map(len, sources.clusters.values()))
    counts = ", ".join(
        f"{number} {name}{'' if number == 1 else 's'}"
        for name, number in (
            (level.name.lower(), sum(issue.severity is level for issue in found))
            for level in sorted(Severity, reverse=True)
        )
    )
    clusters = f" of {len(sources.clusters)} clusters" if len(sources.clusters) > 1 else ""
    click.echo(f"{objects} object{'' if objects == 1 else 's'}{clusters}: {counts}", err=True)
