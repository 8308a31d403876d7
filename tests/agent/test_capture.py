"""The capture rules, as the kernel keeps them in a network namespace of the test's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from isthmus.agent.capture import EVERYTHING, ByMark, ByUser, CaptureFailed, install, rules
from isthmus.agent.families import families_in, families_of
from isthmus.injection.settings import Capture

INSIDE = Path(__file__).with_name("ipv6_pod.py")


def kept(*texts: str) -> str:
    """What the kernel has after it was given these rules, one after another."""
    script = "".join(f"nft -f - <<'END'\n{text}END\n" for text in texts) + "nft list ruleset\n"
    done = subprocess.run(
        ["unshare", "-rn", "sh", "-ec", "PATH=$PATH:/usr/sbin:/sbin\n" + script],
        text=True,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def chain(text: str, name: str) -> list[str]:
    """The rules of one chain, without its head, which versions of nft write differently."""
    inside = text.partition(f"chain {name} {{")[2].partition("\n\t}")[0]
    return [line.strip() for line in inside.splitlines()[2:]]


def test_everything_but_the_proxys_own_is_captured():
    found = kept(rules(ByUser(1337), EVERYTHING, dns=True))

    assert chain(found, "output") == [
        "ip saddr 127.0.0.6 return",
        'meta skuid 1337 oifname "lo" ip daddr != 127.0.0.0/8 tcp dport != { 15000, 15020, 15021, 15090 } redirect to :15006',
        "meta skuid 1337 return",
        "udp dport 53 redirect to :15053",
        "tcp dport 53 ip daddr != 127.0.0.0/8 redirect to :15053",
        'oifname "lo" ip daddr 127.0.0.0/8 return',
        "tcp dport { 15020, 15021, 15090 } return",
        "meta l4proto tcp redirect to :15001",
    ]
    assert chain(found, "prerouting") == [
        "tcp dport { 15008, 15020, 15021, 15090 } return",
        "meta l4proto tcp redirect to :15006",
    ]


def test_where_the_proxy_may_mark_its_sockets_the_mark_tells():
    found = kept(rules(ByMark(), EVERYTHING, dns=False))

    assert "meta mark 0x00000539 return" in found
    assert "15053" not in found


def test_a_container_that_runs_again_changes_nothing():
    once = rules(ByUser(1337), EVERYTHING, dns=True)

    assert kept(once, once) == kept(once)


def test_ports_and_ranges_are_left_out_or_alone_captured():
    wanted = Capture(
        inbound_ports="80,443",
        excluded_inbound_ports="9090,9091",
        outbound_ranges="10.0.0.0/8,192.168.0.0/16,fd00::/8",
        excluded_outbound_ranges="10.1.0.0/16,10.3.0.0/16",
        outbound_ports="8080,8081",
        excluded_outbound_ports="3306,5432",
    )
    found = kept(rules(ByUser(1337), wanted, dns=False))

    assert chain(found, "output")[-4:] == [
        "tcp dport { 3306, 5432 } return",
        "ip daddr { 10.1.0.0/16, 10.3.0.0/16 } meta l4proto tcp return",
        "tcp dport { 8080, 8081 } redirect to :15001",
        "ip daddr { 10.0.0.0/8, 192.168.0.0/16 } meta l4proto tcp redirect to :15001",
    ]
    assert chain(found, "prerouting")[1:] == [
        "tcp dport { 9090, 9091 } return",
        "tcp dport { 80, 443 } redirect to :15006",
    ]


def test_nothing_is_captured_where_nothing_is_named():
    found = kept(rules(ByUser(1337), Capture(inbound_ports="", outbound_ranges=""), dns=False))

    assert chain(found, "output")[-1] == "tcp dport { 15020, 15021, 15090 } return"
    assert chain(found, "prerouting") == ["tcp dport { 15008, 15020, 15021, 15090 } return"]


def test_rules_that_the_kernel_refuses_are_told():
    with pytest.raises(CaptureFailed, match="nft"):
        install("table ip isthmus_capture { chain c { no such thing } }")


def test_ipv6_is_captured_in_the_same_way_where_the_pod_has_it():
    wanted = Capture(outbound_ranges="10.0.0.0/8,fd00::/8", excluded_outbound_ranges="10.1.0.0/16")
    found = kept(rules(ByUser(1337), wanted, dns=True, name_servers=["10.96.0.10", "fd00::53"], families=(4, 6)))
    of_ipv4, _, of_ipv6 = found.partition("table ip6")

    assert chain(of_ipv6, "output") == [
        "ip6 saddr ::6 return",
        'meta skuid 1337 oifname "lo" ip6 daddr != ::1 tcp dport != { 15000, 15020, 15021, 15090 } redirect to :15006',
        "meta skuid 1337 return",
        "udp dport 53 ip6 daddr fd00::53 redirect to :15053",
        "tcp dport 53 ip6 daddr fd00::53 redirect to :15053",
        'oifname "lo" ip6 daddr ::1 return',
        "tcp dport { 15020, 15021, 15090 } return",
        "ip6 daddr :: meta l4proto tcp return",
        "ip6 daddr fd00::/8 meta l4proto tcp redirect to :15001",
    ]
    assert chain(of_ipv6, "prerouting") == chain(of_ipv4, "prerouting")
    assert "fd00" not in of_ipv4
    assert "10." not in of_ipv6


def test_an_address_that_others_may_call_makes_a_pod_one_of_ipv6():
    loopback = "00000000000000000000000000000001 01 80 10 80       lo\n"
    loopback += "00000000000000000000000000000006 01 80 00 80       lo\n"
    link = "fe8000000000000000fc00fffe000001 04 40 20 80     eth0\n"
    of_the_pod = "fd000000000000000000000000000002 04 40 00 82     eth0\n"

    assert families_in("") == (4,)
    assert families_in(loopback + link) == (4,)
    assert families_in(loopback + link + of_the_pod) == (4, 6)
    assert families_of(["fd00::2"]) == (6,)
    assert families_of(["10.0.0.2", "fd00::2"]) == (4, 6)
    assert families_of([""]) == (4,)


def test_a_request_over_ipv6_goes_out_and_in_through_the_proxy(tmp_path):
    """A Pod calls its own Service: captured on the way out, by mutual TLS to itself, captured on the way in, and led to the workload from ::6."""
    done = subprocess.run(
        ["unshare", "-rn", sys.executable, str(INSIDE), str(tmp_path)],
        text=True,
        capture_output=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(INSIDE.parent.parent)},
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"server sees": "::6", "handshakes": 1, "connections to the workload": 1}
