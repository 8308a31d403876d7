"""Istio's own control plane, started as ours is: the same API server, the same objects, the same proxies."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from pathlib import Path

from bench.processes import BenchFailed, Child

_READY_SECONDS = 180.0
_ATTEMPT_SECONDS = 2.0
_NO_LIMIT = 10_000
"""Requests a second to the API server: its own limit of 80 is for shared clusters, and would be what is measured."""


def istiod(program: Path, kubeconfig: Path, cluster: str, bind: str, folder: Path) -> Child:
    """Serves proxies and signs certificates on 15012. What is in the environment goes through to it, so that its features can be chosen.

    It reads its mesh settings and its plugged-in authority, if any, from where it is started: a folder with neither. Raises BenchFailed.
    """
    folder.mkdir(exist_ok=True)
    if not program.exists():
        raise BenchFailed(f"there is no {program}: `make bench-istiod` builds it, with Go")
    environment = {
        "CLUSTER_ID": cluster,
        "POD_NAME": "istiod-0",
        "POD_NAMESPACE": "istio-system",
        "REVISION": "default",
        "PILOT_CERT_PROVIDER": "istiod",
        "INJECT_ENABLED": "false",
        "PILOT_ENABLE_ANALYSIS": "false",
        **os.environ,
    }
    command = [
        *(str(program.resolve()), "discovery", "--kubeconfig", str(kubeconfig.resolve()), "--clusterID", cluster),
        *("--secureGRPCAddr", f"{bind}:15012", "--httpAddr", f"{bind}:8080", "--httpsAddr", f"{bind}:15017"),
        *("--monitoringAddr", f"{bind}:15014", "--grpcAddr", "", "--ctrlz_port", "0"),
        *("--kubernetesApiQPS", str(_NO_LIMIT), "--kubernetesApiBurst", str(2 * _NO_LIMIT)),
        *("--log_output_level", "default:warn"),
    ]
    child = Child("istiod", command, environment, folder / "log", folder=folder)
    try:
        child.until(lambda: _answers(f"http://{bind}:8080/ready"), _READY_SECONDS)
    except BenchFailed:
        child.kill()
        raise
    return child


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=_ATTEMPT_SECONDS) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
