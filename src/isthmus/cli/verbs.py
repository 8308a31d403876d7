"""The questions that `isthmus batch` answers. Each is one function from parameters to an answer; none keeps anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from isthmus.cli.trust_verbs import TRUST_VERBS

Object = dict[str, Any]


def _render(params: Object) -> Object:
    from isthmus.assurance.rendering import render
    from isthmus.assurance.scenario import scenario_of

    return render(scenario_of(_scenario(params["scenario"])), params["proxy"])


def _gateway_status(params: Object) -> Object:
    from isthmus.cli.gateway_status import statuses

    return statuses(_scenario(params["scenario"]))


def _dns_query(params: Object) -> Object:
    from isthmus.dns.query import query

    return query(_loaded(params["table"]), str(params["name"]), str(params.get("type", "A")))


def _validate(params: Object) -> Object:
    from isthmus.assurance.validation import validate

    return validate(params["object"])


def _analyze(params: Object) -> Object:
    from isthmus.assurance.analysis.analyzing import analyze
    from isthmus.assurance.analysis.messages import message_of
    from isthmus.cli.analysis_input import asked_by_files

    question, reference = asked_by_files(params)
    return {"messages": [message_of(issue, reference) for issue in analyze(question)]}


def _validate_mesh(params: Object) -> Object:
    from isthmus.assurance.validation import validate_mesh

    return validate_mesh(params.get("meshConfig"), params.get("meshNetworks"))


def _remote_secret(params: Object) -> Object:
    from isthmus.controlplane.secret_questions import check

    return check(params["secret"], params["configCluster"], params["systemNamespace"], params.get("env") or {})


def _remote_secret_sequence(params: Object) -> Object:
    from isthmus.controlplane.secret_questions import simulate

    return simulate(params["steps"], params["configCluster"], params["systemNamespace"], params.get("env") or {})


def _create_remote_secret(params: Object) -> Object:
    from isthmus.cli.linking_questions import created

    flags = params.get("flags") or {}
    account = str(flags.get("service-account") or params.get("serviceAccount", ""))
    secret = created(
        params["objects"], account, str(params.get("namespace", "istio-system")), str(params.get("server", "")), flags
    )
    return {"secret": secret}


VERBS: dict[str, Callable[[Object], Object]] = {
    "analyze": _analyze,
    "create-remote-secret": _create_remote_secret,
    "dns-query": _dns_query,
    "gateway-status": _gateway_status,
    "remote-secret": _remote_secret,
    "remote-secret-sequence": _remote_secret_sequence,
    "render": _render,
    "validate": _validate,
    "validate-mesh": _validate_mesh,
    **TRUST_VERBS,
}


def _scenario(value: Any) -> Object:
    """In place, or the path of a file."""
    document = _loaded(value)
    if not isinstance(document, dict):
        raise ValueError("scenario: is not an object")
    return document


def _loaded(value: Any) -> Any:
    import yaml

    if isinstance(value, str):
        return yaml.load(Path(value).read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return value
