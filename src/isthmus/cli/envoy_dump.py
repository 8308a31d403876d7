"""What an Envoy says of itself, as rows for people. Pure readings of the documents of its admin interface, in `istioctl`'s columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

Object = dict[str, Any]
Row = tuple[object, ...]


def dump_of(dump: Object, kind: str) -> Object:
    """One part of a config dump, such as `Clusters`; empty if Envoy gave none."""
    wanted = f"type.googleapis.com/envoy.admin.v3.{kind}ConfigDump"
    return next((part for part in dump.get("configs", []) if part["@type"] == wanted), {})


def clusters(dump: Object) -> Iterator[Object]:
    """The clusters themselves, those of the bootstrap too."""
    part = dump_of(dump, "Clusters")
    for key in ("static_clusters", "dynamic_active_clusters"):
        yield from (entry["cluster"] for entry in part.get(key, []))


def listeners(dump: Object) -> Iterator[Object]:
    part = dump_of(dump, "Listeners")
    yield from (entry["listener"] for entry in part.get("static_listeners", []))
    yield from (
        entry["active_state"]["listener"] for entry in part.get("dynamic_listeners", []) if entry.get("active_state")
    )


def routes(dump: Object) -> Iterator[Object]:
    part = dump_of(dump, "Routes")
    for key in ("static_route_configs", "dynamic_route_configs"):
        yield from (entry["route_config"] for entry in part.get(key, []))


def secrets(dump: Object) -> Iterator[Object]:
    """Without what is private: Envoy leaves keys out of its dumps already."""
    part = dump_of(dump, "Secrets")
    for key in ("static_secrets", "dynamic_active_secrets", "dynamic_warming_secrets"):
        for entry in part.get(key, []):
            yield entry | {"state": "WARMING" if "warming" in key else "ACTIVE"}


def cluster_rows(dump: Object) -> Sequence[Row]:
    """SERVICE FQDN, PORT, SUBSET, DIRECTION, TYPE."""
    rows: list[tuple[str, object, str, str, str]] = []
    for cluster in clusters(dump):
        direction, port, subset, host = _parts(cluster["name"])
        kind = cluster.get("type", "CUSTOM" if "cluster_type" in cluster else "STATIC")
        rows.append((host, port, subset, direction, kind))
    return sorted(rows, key=lambda row: (row[0], _number(row[1]), row[2]))


def listener_rows(dump: Object) -> list[Row]:
    """ADDRESS, PORT, MATCH, DESTINATION: a row for each filter chain, as Envoy tries them."""
    rows: list[Row] = []
    for listener in sorted(listeners(dump), key=lambda listener: str(listener.get("name", ""))):
        address = listener.get("address", {}).get("socket_address", {})
        chains = listener.get("filter_chains", [])
        if listener.get("default_filter_chain"):
            chains = [*chains, listener["default_filter_chain"]]
        for chain in chains:
            match = _match(chain.get("filter_chain_match") or {})
            rows.append((address.get("address", "-"), address.get("port_value", "-"), match, _destination(chain)))
    return rows


def route_rows(dump: Object) -> list[Row]:
    """NAME, VHOST NAME, DOMAINS, MATCH, DESTINATION."""
    rows: list[Row] = []
    for table in routes(dump):
        for host in table.get("virtual_hosts", []):
            domains = host.get("domains", [])
            shown = ", ".join(domains[:2]) + (f" + {len(domains) - 2} more" if len(domains) > 2 else "")
            rows += [
                (table.get("name", ""), host["name"], shown, _route_match(route.get("match", {})), _action(route))
                for route in host.get("routes", [])
            ]
    return sorted(rows, key=lambda row: (_number(row[0]), str(row[0]), str(row[1])))


def endpoint_rows(page: Object) -> list[Row]:
    """ENDPOINT, STATUS, OUTLIER CHECK, WEIGHT, REQUESTS, CLUSTER; of the page `clusters?format=json`."""
    rows: list[Row] = []
    for cluster in page.get("cluster_statuses", []):
        for host in cluster.get("host_statuses", []):
            health = host.get("health_status", {})
            ejected = any(health.get(name) for name in ("failed_outlier_check", "failed_active_health_check"))
            status = health.get("eds_health_status", "HEALTHY")
            stats = {stat["name"]: int(stat.get("value", 0)) for stat in host.get("stats", [])}
            rows.append(
                (
                    address_of(host["address"]),
                    status,
                    "FAILED" if ejected else "OK",
                    host.get("weight", 1),
                    stats.get("rq_total", 0),
                    cluster["name"],
                )
            )
    return sorted(rows, key=lambda row: (str(row[5]), str(row[0])))


def secret_rows(dump: Object, describe: Callable[[str], tuple[str, str, str, str]]) -> list[Row]:
    """RESOURCE NAME, TYPE, STATUS, IDENTITY, SERIAL NUMBER, NOT AFTER, NOT BEFORE. `describe` reads the last four from a PEM chain."""
    rows: list[Row] = []
    for entry in secrets(dump):
        secret = entry.get("secret", {})
        if "tls_certificate" in secret:
            chain = secret["tls_certificate"].get("certificate_chain", {}).get("inline_string", "")
            rows.append((entry["name"], "Cert Chain", entry["state"], *describe(chain)))
        else:
            rows.append((entry["name"], "Trust Bundle", entry["state"], "-", "-", "-", "-"))
    return rows


def address_of(address: Object) -> str:
    """As `ip:port`, a pipe's path, or an internal listener's name."""
    if "socket_address" in address:
        found = address["socket_address"]
        return f"{found['address']}:{found['port_value']}"
    if "pipe" in address:
        return f"unix://{address['pipe']['path']}"
    internal = address.get("envoy_internal_address", {})
    return f"envoy://{internal.get('server_listener_name', '?')}/{internal.get('endpoint_id', '')}"


def _parts(name: str) -> tuple[str, object, str, str]:
    """(direction, port, subset, host) of Istio's cluster names; others are their own host."""
    parts = name.split("|")
    if len(parts) == 4:
        return parts[0], parts[1], parts[2], parts[3] or "-"
    sni = name.split("_.")
    if len(sni) == 4:
        return f"{sni[0]} (sni)", sni[1], sni[2], sni[3]
    return "-", "-", "-", name


def _match(match: Object) -> str:
    said = []
    for key, label in (("server_names", "SNI"), ("application_protocols", "App"), ("transport_protocol", "Trans")):
        value = match.get(key)
        if value:
            said.append(f"{label}: {','.join(value) if isinstance(value, list) else value}")
    said += [
        f"Addr: {prefix['address_prefix']}/{prefix.get('prefix_len', 0)}" for prefix in match.get("prefix_ranges", [])
    ]
    if "destination_port" in match:
        said.append(f"Port: {match['destination_port']}")
    return "; ".join(said) or "ALL"


def _destination(chain: Object) -> str:
    """Where the chain's last filter leads."""
    for filter_ in reversed(chain.get("filters", [])):
        config = filter_.get("typed_config", {})
        if "rds" in config:
            return f"Route: {config['rds']['route_config_name']}"
        if "route_config" in config:
            return f"Inline Route: {config['route_config'].get('name', '')}".rstrip()
        if "cluster" in config:
            return f"Cluster: {config['cluster']}"
        if "weighted_clusters" in config:
            return "Clusters: " + ", ".join(entry["name"] for entry in config["weighted_clusters"]["clusters"])
        if "direct_response" in filter_.get("name", ""):
            return "Direct Response"
    names = [filter_["name"].rpartition(".")[2] for filter_ in chain.get("filters", [])]
    return ", ".join(names) or "Non-HTTP/Non-TCP"


def _route_match(match: Object) -> str:
    if "prefix" in match:
        shown = f"{match['prefix']}*"
    elif "path" in match:
        shown = match["path"]
    elif "path_separated_prefix" in match:
        shown = f"{match['path_separated_prefix']}/*"
    else:
        shown = f"regex {match.get('safe_regex', {}).get('regex', '')}"
    headers = ", ".join(header["name"] for header in match.get("headers", []))
    return f"{shown} (by {headers})" if headers else shown


def _action(route: Object) -> str:
    if "route" in route:
        target = route["route"]
        if "weighted_clusters" in target:
            return ", ".join(f"{c['name']} {c.get('weight', 0)}" for c in target["weighted_clusters"]["clusters"])
        return str(target.get("cluster", target.get("cluster_header", "")))
    if "redirect" in route:
        return "redirect"
    return f"direct response {route['direct_response'].get('status', '')}" if "direct_response" in route else "-"


def _number(value: object) -> int:
    return int(str(value)) if str(value).isdigit() else -1
