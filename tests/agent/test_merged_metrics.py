"""One answer with all metrics of a Pod, whatever its workload answers: text, nonsense, too much, too late."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from isthmus.agent.app_probes import AppProbes
from isthmus.agent.merged_metrics import MergedMetrics, NotScraped, checked
from isthmus.agent.specification import Scraped

EXPIRES = datetime.now(UTC) + timedelta(hours=1)


async def well() -> list[str]:
    return []


@pytest.fixture
async def workload() -> AsyncIterator[int]:
    """Answers each path in its own way; /never does not."""
    forever = asyncio.Event()
    asked: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(request.headers["Accept"])
        match request.path:
            case "/never":
                await forever.wait()
            case "/elsewhere":
                raise web.HTTPFound("/metrics")
            case "/endless":
                response = web.StreamResponse()
                await response.prepare(request)
                while True:
                    await response.write(b"x 1\n" * 65536)
            case "/forged":
                return web.Response(text='istio_requests_total{reporter="source"} 7\n')
            case "/broken":
                return web.Response(text="up 1\n<html>\n")
        return web.Response(text='# TYPE orders counter\norders{shop="a b"} 3 1700000000000\nload 0.5\n# EOF')

    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


@pytest.fixture
async def scraped() -> AsyncIterator[Callable[..., Any]]:
    """Asks an agent of a Pod without Envoy for everything, once for each question."""
    runners = []

    async def ask(where: Scraped | None, times: int = 1, **headers: str) -> list[tuple[int, str]]:
        metrics = MergedMetrics("127.0.0.1", where, lambda: EXPIRES)
        runner = web.AppRunner(AppProbes({}, "127.0.0.1", well).application(metrics.answer), shutdown_timeout=0.1)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/stats/prometheus"
        async with aiohttp.ClientSession() as session:

            async def once() -> tuple[int, str]:
                async with session.get(url, headers=headers) as response:
                    return response.status, await response.text()

            return list(await asyncio.gather(*(once() for _ in range(times))))

    yield ask
    for runner in runners:
        await runner.cleanup()


def failures(text: str) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in re.findall(r'istio_agent_scrape_failures_total\{type="(\w+)"\} (\S+)', text)
    }


async def test_the_workloads_metrics_stand_beside_the_agents(scraped, workload):
    [(status, text)] = await scraped(Scraped(workload, "/metrics"))

    assert status == 200
    assert 'orders{shop="a b"} 3 1700000000000\nload 0.5\n' in text
    assert "# EOF" not in text
    assert "istio_agent_scrapes_total 1.0" in text
    assert 0 < float(re.findall(r"^istio_agent_cert_expiry_seconds (\S+)", text, re.M)[0]) <= 3600
    assert failures(text) == {"envoy": 1}, "there is no Envoy here"


@pytest.mark.parametrize("path", ["/never", "/elsewhere", "/endless", "/forged", "/broken"])
async def test_a_workload_that_misbehaves_costs_its_own_part_alone(scraped, workload, path, monkeypatch):
    monkeypatch.setattr("isthmus.agent.merged_metrics._SECONDS_MAX", 60.0)
    [(status, text)] = await scraped(
        Scraped(workload, path), **{"X-Prometheus-Scrape-Timeout-Seconds": "0.5" if path == "/never" else "90"}
    )

    assert status == 200
    assert failures(text) == {"envoy": 1, "application": 1}
    assert "istio_requests_total" not in text
    assert "html" not in text


async def test_a_workload_that_says_too_much_is_not_heard_to_the_end(scraped, workload, monkeypatch):
    monkeypatch.setattr("isthmus.agent.merged_metrics._SECONDS_MAX", 60.0)
    with capture_logs() as lines:
        await scraped(Scraped(workload, "/endless"), **{"X-Prometheus-Scrape-Timeout-Seconds": "90"})

    [why] = [line["error"] for line in lines if line.get("of") == "application"]
    assert f"says more than {16 << 20} bytes" in why


async def test_a_workload_that_is_not_there_is_counted(scraped):
    [(_, text)] = await scraped(Scraped(1, "/metrics"))

    assert failures(text)["application"] == 1


async def test_who_asks_too_often_at_once_is_told_to_wait(scraped, workload):
    answers = await scraped(Scraped(workload, "/never"), 4, **{"X-Prometheus-Scrape-Timeout-Seconds": "2"})

    assert sorted(status for status, _ in answers) == [200, 200, 503, 503]


@pytest.mark.parametrize(
    "line", [b"x", b"1x 2", b'x{a="b" 1', b"x 1 2 3", b"envoy_server_live 1", b"\xff 1", b"x{} 1} 2"]
)
def test_what_is_no_metric_is_refused_with_its_line(line):
    with pytest.raises(NotScraped, match="line 2 "):
        checked(b"up 1\n" + line + b"\n")


@pytest.mark.parametrize(
    "line", [b"x 1", b"x NaN", b"x{} +Inf", b'x:y_total{a="}",b="\\"\\n"} 1e-9 -5', b"# HELP x anything {", b"x 1\r"]
)
def test_what_prometheus_takes_is_passed_on(line):
    assert checked(line) == line.rstrip(b"\r") + b"\n"
