"""How metrics look to those who ask for them: Envoy puts `envoy_` before every name, dashboards ask for `istio_requests_total`.

A few lines of Lua on the statistics port do it, once for each question. What they can say of a line they say, too: all that is the same for
every line of a proxy (the proxy's own end), and what one value tells several labels. Labels that are written for each request cost every
listener and every request; these cost the one who asks. (An inline Wasm module would have Envoy leave the prefix out itself, and cost every
proxy 14 MB; this costs 1 MB, both measured.)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from isthmus.model.telemetry import canonical_name, canonical_revision

SHORT = "istio_reporter"
"""The label of a line that says only what changes from line to line: instead of `reporter`, with its value."""

PEER = "destination_peer"
"""Of such a line, what a client's proxy knows of an endpoint's workload: `name;namespace;canonical service;revision;cluster`."""

SERVICE = "destination_host"
"""Of such a line, the service: `host;name;namespace`."""

UNKNOWN = "unknown"
"""What a proxy does not know of an end."""

ENDS = ("workload", "workload_namespace", "app", "version", "canonical_service", "canonical_revision", "cluster")
"""What is said of both ends: after `source_` and `destination_`."""

PEER_PARTS = {
    "workload": 1,
    "workload_namespace": 2,
    "app": 3,
    "canonical_service": 3,
    "version": 4,
    "canonical_revision": 4,
    "cluster": 5,
}
"""Which part of `PEER` each is."""

SERVICE_PARTS = {"destination_service": 1, "destination_service_name": 2, "destination_service_namespace": 3}
_PLAIN = re.compile(r"[A-Za-z0-9 ._:/@-]*")


def own_end(node: Mapping[str, Any]) -> dict[str, str]:
    """What the proxy knows of its own workload, by `ENDS`. `node` is its xDS Node as JSON."""
    metadata = node.get("metadata") or {}
    labels = metadata.get("LABELS") or {}
    workload = str(metadata.get("WORKLOAD_NAME") or "")
    found = {
        "workload": workload,
        "workload_namespace": str(metadata.get("NAMESPACE") or ""),
        "app": str(labels.get("app") or ""),
        "version": str(labels.get("version") or ""),
        "canonical_service": canonical_name(labels) or workload,
        "canonical_revision": canonical_revision(labels),
        "cluster": str(metadata.get("CLUSTER_ID") or ""),
    }
    return {name: value if value and _PLAIN.fullmatch(value) else UNKNOWN for name, value in found.items()}


def lua(node: Mapping[str, Any]) -> str:
    """The script of a proxy's statistics port."""
    own = own_end(node)
    return _SCRIPT % {
        "short": SHORT,
        "peer": PEER,
        "service": SERVICE,
        "unknown": UNKNOWN,
        "as_source": _labels("source", own),
        "as_destination": _labels("destination", own),
        "no_source": _labels("source", dict.fromkeys(ENDS, UNKNOWN)),
        "peer_pattern": ";".join(['([^;"]*)'] * 5),
        "peer_labels": ",".join(f'destination_{name}="%{PEER_PARTS[name]}"' for name in ENDS),
        "nobody": _labels("destination", dict.fromkeys(ENDS, "")),
        "service_pattern": ";".join(['([^;"]*)'] * 3),
        "service_labels": ",".join(f'{name}="%{place}"' for name, place in SERVICE_PARTS.items()),
        "no_service": ",".join(f'{name}=""' for name in SERVICE_PARTS),
    }


def _labels(end: str, values: Mapping[str, str]) -> str:
    return ",".join(f'{end}_{name}="{values[name]}"' for name in ENDS)


_SCRIPT = """
local function whole(line)
  local reporter = line:match('%(short)s="([^"]*)"')
  if not reporter then return line end
  local protocol, said = 'http', ''
  local grpc = line:match('grpc_response_status="([^"]*)"')
  if not grpc then protocol = 'tcp' elseif grpc ~= '' and grpc ~= '-' then protocol = 'grpc' end
  if reporter == 'source' then
    said = '%(as_source)s,connection_security_policy="%(unknown)s"'
  else
    local principal = line:match('source_principal="([^"]*)"')
    local policy = 'mutual_tls'
    if not principal or principal == '' or principal == '-' then policy = 'none' end
    said = '%(no_source)s,%(as_destination)s,connection_security_policy="' .. policy .. '"'
  end
  said = 'reporter="' .. reporter .. '",' .. said .. ',request_protocol="' .. protocol .. '"'
  line = line:gsub('%(short)s="[^"]*"', function() return said end, 1)
  line = line:gsub('%(peer)s="%(peer_pattern)s"', '%(peer_labels)s')
  line = line:gsub('%(peer)s="[^"]*"', '%(nobody)s')
  line = line:gsub('%(service)s="%(service_pattern)s"', '%(service_labels)s')
  line = line:gsub('%(service)s="[^"]*"', '%(no_service)s')
  return line
end

local function line_of_mesh(line)
  line = whole(line)
  local namespace = line:match('source_principal="spiffe://[^/"]+/ns/([^/"]+)/sa/')
  if namespace then
    local said = 'source_workload_namespace="' .. namespace .. '"'
    line = line:gsub('source_workload_namespace="%(unknown)s"', function() return said end)
  end
  line = line:gsub('(source_[%%l_]+)=""', '%%1="%(unknown)s"')
  line = line:gsub('(destination_[%%l_]+)=""', '%%1="%(unknown)s"')
  return line
end

function envoy_on_response(handle)
  local body = handle:body()
  if body == nil or body:length() == 0 then return end
  local text = '\\n' .. body:getBytes(0, body:length())
  text = text:gsub('\\n# TYPE envoy_istio_', '\\n# TYPE istio_')
  text = text:gsub('\\nenvoy_(istio_[^\\n]*)', function(line) return '\\n' .. line_of_mesh(line) end)
  handle:headers():remove('content-length')
  body:setBytes(text:sub(2))
end
"""

BUFFER_BYTES = 1 << 27
"""What an answer may be long: Lua sees it whole."""
