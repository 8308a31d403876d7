"""Capture: the rules in a Pod's namespace that lead its connections into its sidecar. Envoy's own carry a mark and are left alone."""

from __future__ import annotations

MARK = 1337
"""SO_MARK of the proxy's own sockets."""

_OUTBOUND, _INBOUND, _DNS = 15001, 15006, 15053
_OWN_PORTS = "15000, 15020, 15021, 15090"
_NOT_CAPTURED_INBOUND = "15008, 15020, 15021, 15090"
_LOOPBACK_SOURCE = "127.0.0.6"
"""Source of the sidecar's connections to its own workload."""


def rules(*, dns: bool) -> str:
    """As Istio's, by mark instead of user. The order matters: own connections first, then DNS, then loopback, then the rest."""
    captured_dns = f"""
  udp dport 53 redirect to :{_DNS}
  tcp dport 53 ip daddr != 127.0.0.0/8 redirect to :{_DNS}"""
    return f"""
table ip isthmus_capture {{
 chain output {{ type nat hook output priority -100; policy accept;
  ip saddr {_LOOPBACK_SOURCE} return
  meta mark {MARK} oifname "lo" ip daddr != 127.0.0.0/8 tcp dport != {{ {_OWN_PORTS} }} redirect to :{_INBOUND}
  meta mark {MARK} return{captured_dns if dns else ""}
  oifname "lo" ip daddr 127.0.0.0/8 return
  meta l4proto tcp redirect to :{_OUTBOUND}
 }}
 chain prerouting {{ type nat hook prerouting priority -100; policy accept;
  tcp dport {{ {_NOT_CAPTURED_INBOUND} }} return
  meta l4proto tcp redirect to :{_INBOUND}
 }}
}}
"""
