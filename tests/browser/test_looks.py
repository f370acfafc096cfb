"""Each state at three sizes, dark and light, and at twice the size: nothing sticks out, nothing bars anybody."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.client import BASE, session, until
from tests.acceptance.conftest import SMALL
from tests.acceptance.keyed import Keyring
from tests.browser.conftest import LOST, SIZES, Opened, Shot, Watched
from tests.browser.test_journeys import (
    FITS,
    SLOW_BYTES_PER_S,
    card,
    choose,
    expect,
    on_its_way,
    send,
    slowed,
    status_is,
    write,
)
from tests.conftest import Psql
from tests.processes import Starter

axe = pytest.importorskip("axe_playwright_python.base", reason="axe-playwright-python is not installed")

RULES = "axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice']})"
SCHEMES = ("light", "dark")
# A window of 1280 x 800 in which everything is twice as large, as the browser's zoom does it.
ZOOMED = (640, 400)
BAD = "id,name\n" + "".join(f"{'x' if n % 7 == 0 else n},a name that is number {n}\n" for n in range(1, 200))
# A line of several points, not all of them at the bottom.
POINTS = re.compile(r"(?=.*[ ,]2\.0)(\S+ ){4,}")
BACKERS = "backers of the second campaign.csv"


class Looks:
    """Looks at a page as it is now, in each way that people have it."""

    def __init__(self, page: Any, shot: Shot) -> None:
        self.page = page
        self.shot = shot

    def at(self, state: str) -> None:
        """Fail when anything is wider than the window, or axe finds a fault; keep pictures."""
        for scheme, judged in zip(SCHEMES, ("phone", "desk"), strict=True):
            self.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            for size, (width, height) in SIZES.items():
                self.page.set_viewport_size({"width": width, "height": height})
                assert self.page.evaluate(FITS), (state, size)
                self.shot(self.page, f"{state}-{size}-{scheme}")
                if size == judged:
                    self._judge(state)
        self._larger(state)
        self.page.set_viewport_size(dict(zip(("width", "height"), SIZES["desk"], strict=True)))

    def _judge(self, state: str) -> None:
        self.page.evaluate(axe.AXE_FILE_PATH.read_text(encoding="utf-8"))
        found = self.page.evaluate(RULES)["violations"]
        assert not [(state, one["id"], [node["html"] for node in one["nodes"]]) for one in found]

    def _larger(self, state: str) -> None:
        """Twice as large by the browser's zoom, and by its size of text alone."""
        self.page.set_viewport_size(dict(zip(("width", "height"), ZOOMED, strict=True)))
        assert self.page.evaluate(FITS), f"{state} at 200 %"
        self.shot(self.page, f"{state}-zoomed")
        self.page.evaluate("document.documentElement.style.fontSize = '200%'")
        assert self.page.evaluate(FITS), f"{state} with text of 200 %"
        self.page.evaluate("document.documentElement.style.fontSize = ''")


# Each batch takes a while, so that there is something to look at.
SLOW_TABLE = """
create table t (a int, b text);
create function rest() returns trigger language plpgsql as 'begin perform pg_sleep(0.3); return null; end';
create trigger rest before insert on t for each statement execute function rest();
"""
ROWS = 100_000

Look = Callable[[Any], Looks]


@pytest.fixture
def looking(shot: Shot) -> Look:
    return lambda page: Looks(page, shot)


def until_processing(watched: Watched) -> None:
    """Wait until a job is at work."""
    jobs = f"{watched.url}{BASE}/jobs?status=processing"
    until(lambda: httpx.get(jobs).json()["total"], "a job is at work")


def test_every_view(opened: Opened, service: Starter, psql: Psql, tmp_path: Path, looking: Look) -> None:
    psql("create table t (id int primary key, name text)")
    watched = opened(service())
    watched.tolerates.append("status of 404")  # of a job that is not there
    page = watched.go()
    looks = looking(page)
    expect(page.get_by_text("No jobs yet")).to_be_visible()
    looks.at("empty")
    page.locator("nav").get_by_role("link", name="Send files").click()
    file = write(tmp_path / BACKERS, BAD)
    choose(page, file)
    card(page, file).get_by_label("Dataset", exact=True).select_option("public.t")
    expect(card(page, file).locator(".mapping")).to_be_visible()
    looks.at("preview")
    choose(page, odd := write(tmp_path / "odd.csv", "id;nickname;town\n1;bob;Köln\n"))
    card(page, odd).get_by_label("Dataset", exact=True).select_option("public.t")
    expect(card(page, odd).get_by_text("no such column")).to_be_visible()
    looks.at("preview-unfit")
    send(page, other := write(tmp_path / "other.csv", BAD))
    expect(card(page, other).locator(".badge")).to_have_text("completed")
    looks.at("sent")
    card(page, other).get_by_role("link", name="See the rejects").click()
    status_is(page, "completed")
    page.get_by_role("button", name="id", exact=True).click()
    expect(page.get_by_role("button", name="Show every reason")).to_be_visible()
    expect(page.locator(".records mark").first).to_be_visible()
    looks.at("rejects")
    page.locator("nav").get_by_role("link", name="Service").click()
    expect(page.get_by_text("Last heartbeat").first).to_be_visible()
    looks.at("service")
    page.goto(f"{page.url.split('#')[0]}#/jobs/0195f2b0-0000-7000-8000-000000000000")
    expect(page.get_by_text("There is no such job")).to_be_visible()
    looks.at("unknown")


def test_every_state_of_a_job(opened: Opened, service: Starter, psql: Psql, looking: Look) -> None:
    """Waiting, paused, cancelled, at work, failed, and all of them in the list."""
    psql(SLOW_TABLE + "create table u (a int)")
    process = service("api", **SMALL)
    watched = opened(process)

    def sent(name: str, dataset: str, rows: int) -> str:
        content = "a,b\n" if dataset.endswith("t") else "a\n"
        content += "".join(f"{n},name {n}\n" if dataset.endswith("t") else f"{n}\n" for n in range(rows))
        answer = httpx.put(f"{process.url}{BASE}/upload/{name}?dataset={dataset}", content=content.encode())
        return str(answer.raise_for_status().json()["id"])

    cancelled, failed = sent("cancelled.csv", "public.t", 10), sent("failed.csv", "public.u", 10)
    slow = sent("customers of the northern region, first quarter.csv", "public.t", ROWS)
    page = watched.go(f"#/jobs/{slow}")
    looks = looking(page)
    status_is(page, "pending")
    looks.at("job-pending")
    page.get_by_role("button", name="Pause").click()
    status_is(page, "paused")
    looks.at("job-paused")
    page.get_by_role("button", name="Resume").click()
    status_is(page, "pending")
    httpx.post(f"{process.url}{BASE}/jobs/{cancelled}/cancel").raise_for_status()
    psql("drop table u")
    service("worker", **SMALL)
    status_is(page, "processing")
    expect(page.locator(".chart polyline")).to_have_attribute("points", POINTS)
    looks.at("job-processing")
    for job, state in ((cancelled, "cancelled"), (failed, "failed")):
        page.goto(f"{process.url}/#/jobs/{job}")
        status_is(page, state)
        expect(page.locator(".error").first).to_be_visible()
        looks.at(f"job-{state}")
    page.locator("nav").get_by_role("link", name="Jobs").click()
    expect(page.locator("table.jobs tbody tr")).to_have_count(3)
    looks.at("jobs")
    page.get_by_label("Search by").fill("nobody")
    expect(page.get_by_text("No job fits")).to_be_visible()
    looks.at("jobs-none")


def test_an_upload_on_its_way_and_a_service_that_is_away(
    opened: Opened, service: Starter, psql: Psql, dsn: str, large_csv: Path, looking: Look
) -> None:
    psql("create table t (id int, name text)")
    process = service(SHUTDOWN_GRACE="60")
    watched = opened(process)
    watched.tolerates.append(LOST)
    page = watched.go("#/send")
    looks = looking(page)
    slowed(watched, SLOW_BYTES_PER_S // 2)
    send(page, large_csv)
    on_its_way(page, large_csv)
    looks.at("uploading")
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("paused", exact=True)).to_be_visible()
    looks.at("upload-paused")
    with session(dsn, "begin; lock table t"):
        httpx.put(f"{process.url}{BASE}/upload/a.csv?dataset=public.t", content=b"id\n1\n").raise_for_status()
        until_processing(watched)
        process.signal(signal.SIGTERM)
        expect(page.locator("#service")).to_have_text("draining")
        looks.at("draining")
    expect(page.locator("#service")).to_have_text("offline")
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_text("waits for the service")).to_be_visible()
    looks.at("offline")
    page.locator("nav").get_by_role("link", name="Service").click()
    expect(page.get_by_text("The service does not answer", exact=True)).to_be_visible()
    looks.at("service-offline")


def test_a_file_is_sent_by_keyboard_alone(opened: Opened, service: Starter, psql: Psql, tmp_path: Path) -> None:
    psql("create table t (id int primary key, name text)")
    page = opened(service()).go()
    expect(page.get_by_text("No jobs yet")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    for _ in range(2):
        page.keyboard.press("Tab")
    expect(page.locator("nav").get_by_role("link", name="Send files")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Send files")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.locator("#files")).to_be_focused()
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    file = write(tmp_path / "a.csv", "email,name\na@b.example,A\n")
    chooser.value.set_files(file)
    button = card(page, file).get_by_role("button", name="Upload", exact=True)
    expect(button).to_be_enabled()
    button.focus()
    page.keyboard.press("Enter")
    expect(card(page, file).locator(".badge")).to_have_text("completed")
    expect(page.locator("#live")).to_have_text("a.csv: completed")
    assert psql("select count(*) from customers") == "1"


def test_the_way_in(opened: Opened, service: Starter, looking: Look) -> None:
    process = service(INGEST_AUTH="required")
    key = Keyring(service).make("support.team.of.the.northern.region@shop.example", "read")
    watched = opened(process)
    watched.tolerates.append("status of 401")
    page = watched.go()
    looks = looking(page)
    page.get_by_label("API key").fill("ing_wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_be_visible()
    looks.at("key")
    page.get_by_label("API key").fill(key)
    page.keyboard.press("Enter")
    expect(page.get_by_text("No jobs yet")).to_be_visible()
    page.locator("nav").get_by_role("link", name="Send files").click()
    expect(page.get_by_text("Your key may not send files")).to_be_visible()
    looks.at("reader")
