"""How long it takes to read and to judge many objects. Usage: bench_validate.py [OBJECTS]"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from click.testing import CliRunner

from isthmus.api.manifests import manifests_of
from isthmus.assurance.validation import problems_of
from isthmus.cli.validating import validate_command

# The kinds that a mesh has most of, as long as they usually are.
_TEMPLATES = (
    """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: reviews-{number}, namespace: shop-{space}}}
spec:
  hosts:
  - reviews-{number}.shop-{space}.svc.cluster.local
  http:
  - match:
    - headers:
        end-user: {{exact: jason}}
      uri: {{prefix: /api/v1}}
    route:
    - destination: {{host: reviews-{number}, subset: v2}}
      weight: 75
    - destination: {{host: reviews-{number}, subset: v3}}
      weight: 25
    timeout: 5s
    retries: {{attempts: 3, perTryTimeout: 2s, retryOn: "5xx,reset"}}
  - route:
    - destination: {{host: reviews-{number}, subset: v1}}
""",
    """\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: reviews-{number}
  namespace: shop-{space}
spec:
  host: reviews-{number}
  trafficPolicy:
    loadBalancer:
      simple: LEAST_REQUEST
      localityLbSetting:
        failover:
        - from: eu
          to: us
    outlierDetection:
      consecutive5xxErrors: 7
      interval: 30s
  subsets:
  - name: v1
    labels: {{version: v1}}
  - name: v2
    labels: {{version: v2}}
""",
    """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: reviews-{number}
  namespace: shop-{space}
spec:
  selector:
    matchLabels:
      app: reviews-{number}
  rules:
  - from:
    - source:
        principals: ["cluster.local/ns/shop-{space}/sa/front"]
    to:
    - operation:
        methods: [GET, POST]
        paths: ["/reviews/*"]
""",
    """\
apiVersion: v1
kind: Service
metadata:
  name: reviews-{number}
  namespace: shop-{space}
  labels: {{app: reviews-{number}}}
spec:
  selector:
    app: reviews-{number}
  ports:
  - name: http
    port: 9080
    targetPort: 9080
""",
)


def main() -> None:
    """Prints wall and CPU time of each step."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    text = "---\n".join(
        _TEMPLATES[number % len(_TEMPLATES)].format(number=number, space=number % 50) for number in range(count)
    )
    print(f"{count} objects, {len(text) / 1e6:.1f} MB of YAML, {text.count(chr(10))} lines")
    started = time.perf_counter(), time.process_time()
    manifests = manifests_of(text)
    _print("read", started)
    started = time.perf_counter(), time.process_time()
    found = sum(len(problems_of(manifest.value)) for manifest in manifests)
    _print("judge", started)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "objects.yaml"
        file.write_text(text)
        started = time.perf_counter(), time.process_time()
        seen = CliRunner().invoke(validate_command, [str(file)])
        _print("isthmus validate FILE", started)
    assert seen.exit_code == 0, seen.output
    print(f"{found} findings; {seen.stderr.strip()}")


def _print(step: str, started: tuple[float, float]) -> None:
    wall, cpu = time.perf_counter() - started[0], time.process_time() - started[1]
    print(f"  {step:24} {wall:6.2f} s, of which {cpu:5.2f} s CPU")


if __name__ == "__main__":
    main()
