"""The page is there at once, weighs little, and stays where it is while its numbers move."""

from __future__ import annotations

from typing import Any

import httpx

from ingest.assets import assets
from tests.acceptance.client import BASE
from tests.acceptance.conftest import SMALL
from tests.browser.conftest import Opened
from tests.browser.test_journeys import expect, status_is
from tests.browser.test_looks import SLOW_TABLE
from tests.conftest import Psql
from tests.processes import Starter

# In one of several loads: a shared machine may stall any of them.
FIRST_PAINT_MS, LOADS = 300, 8
# All that the page is made of, as it travels, with the headers; what the API answers depends on what there is.
MOST_BYTES = 60_000
PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
SHIFTS = """
window.shifts = []
new PerformanceObserver((list) => {
  for (const one of list.getEntries()) if (!one.hadRecentInput) window.shifts.push([one.value, ...one.sources.map((s) => s.node?.className ?? s.node?.nodeName)])
}).observe({ type: 'layout-shift', buffered: true })
"""
ROWS = 20_000


def test_the_first_paint_comes_at_once(opened: Opened, service: Starter) -> None:
    """In a browser that has never seen the page."""
    process = service()
    times = []
    while not times or (min(times) >= FIRST_PAINT_MS and len(times) < LOADS):
        watched = opened(process)
        page = watched.go()
        expect(page.get_by_text("No jobs yet")).to_be_visible()
        times.append(page.evaluate(PAINT))
    assert min(times) < FIRST_PAINT_MS, times


def test_the_page_weighs_little(opened: Opened, service: Starter) -> None:
    watched = opened(service())
    session = watched.context.new_cdp_session(watched.page)
    session.send("Network.enable")
    kinds: dict[str, str] = {}
    sizes: dict[str, float] = {}
    session.on("Network.responseReceived", lambda event: kinds.update({event["requestId"]: event["type"]}))
    session.on("Network.loadingFinished", lambda event: sizes.update({event["requestId"]: event["encodedDataLength"]}))
    page = watched.go()
    expect(page.get_by_text("No jobs yet")).to_be_visible()
    files = [size for request, size in sizes.items() if kinds.get(request) in ("Document", "Stylesheet", "Script")]
    assert len(files) == len([name for name in assets() if not name.endswith(".svg")])
    assert sum(files) < MOST_BYTES


def test_nothing_moves_while_numbers_do(opened: Opened, service: Starter, psql: Psql) -> None:
    """From the first chunk to the last, in the view of the job and in the list, on large windows and on small ones."""
    psql(SLOW_TABLE)
    process = service("api", **SMALL)
    content = "a,b\n" + "".join(f"{n},name {n}\n" for n in range(ROWS))
    answer = httpx.put(f"{process.url}{BASE}/upload/a.csv?dataset=public.t", content=content.encode())
    pages = {}
    for size in ("desk", "phone"):
        for view in (f"#/jobs/{answer.raise_for_status().json()['id']}", "#/"):
            page = pages[size, view] = opened(process, size).page
            page.add_init_script(SHIFTS)
            page.goto(f"{process.url}/{view}")
            status_is(page, "pending")
            moved(page)
    service("worker", **SMALL)
    for page in pages.values():
        status_is(page, "completed")
        expect(page.locator(".counts .inserted_rows, table.jobs td:nth-child(4)")).to_contain_text(f"{ROWS:,}")
    assert {which: found for which, page in pages.items() if (found := moved(page))} == {}


def moved(page: Any) -> list[Any]:
    """What has moved since this was asked for last, as soon as the browser has told of all frames before."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 50)))")
    found: list[Any] = page.evaluate("window.shifts.splice(0)")
    return found
