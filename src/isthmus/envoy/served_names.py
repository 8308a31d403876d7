"""How metrics look to those who ask for them: Envoy puts `envoy_` before every name, dashboards ask for `istio_requests_total`.

A few lines of Lua on the statistics port do it, once for each question. (An inline Wasm module would have Envoy leave the prefix out itself,
and cost every proxy 14 MB; this costs 1 MB, both measured.)
"""

from __future__ import annotations

PEER = "destination_peer"
"""The label under which a client's proxy writes an endpoint's workload: `name;namespace;canonical service;revision;cluster`."""

UNKNOWN = "unknown"
"""What a proxy does not know of an end."""

PEER_LABELS = (
    "destination_workload",
    "destination_workload_namespace",
    "destination_app",
    "destination_version",
    "destination_cluster",
)

_PARTS = "".join(f'{name}="%{place}",' for place, name in enumerate(PEER_LABELS, 1)).rstrip(",")
_NOBODY = "".join(f'{name}="",' for name in PEER_LABELS).rstrip(",")

LUA = f"""
local function line_of_mesh(line)
  line = line:gsub('{PEER}="([^;"]*);([^;"]*);([^;"]*);([^;"]*);([^;"]*)"', '{_PARTS}')
  line = line:gsub('{PEER}="[^"]*"', '{_NOBODY}')
  local namespace = line:match('source_principal="spiffe://[^/"]+/ns/([^/"]+)/sa/')
  if namespace then
    line = line:gsub('source_workload_namespace="{UNKNOWN}"', 'source_workload_namespace="' .. namespace:gsub('%%', '%%%%') .. '"')
  end
  line = line:gsub('(source_[%l_]+)=""', '%1="{UNKNOWN}"')
  line = line:gsub('(destination_[%l_]+)=""', '%1="{UNKNOWN}"')
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
