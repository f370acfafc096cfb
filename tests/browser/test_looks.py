"""Each view at three sizes, dark and light: nothing sticks out, nothing bars anybody, everything by keyboard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.keyed import Keyring
from tests.browser.conftest import SIZES, Opened
from tests.browser.test_journeys import card, choose, expect, send, status_is, write
from tests.conftest import Psql
from tests.processes import Starter

axe = pytest.importorskip("axe_playwright_python.base", reason="axe-playwright-python is not installed")

RULES = "axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice']})"
BAD = "id,name\n" + "".join(f"{'x' if n % 7 == 0 else n},a name that is number {n}\n" for n in range(1, 200))


def judge(page: Any) -> None:
    """Nothing is wider than the window, and axe finds nothing."""
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), page.url
    page.evaluate(axe.AXE_FILE_PATH.read_text(encoding="utf-8"))
    found = page.evaluate(RULES)["violations"]
    assert not [(one["id"], [node["html"] for node in one["nodes"]]) for one in found]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_every_view_fits(
    opened: Opened,
    service: Starter,
    psql: Psql,
    tmp_path: Path,
    size: str,
    scheme: str,
    shot: Callable[[Any, str], None],
) -> None:
    psql("create table t (id int primary key, name text)")
    page = opened(service(), size, color_scheme=scheme, reduced_motion="reduce").go()

    def look(name: str) -> None:
        judge(page)
        shot(page, f"{name}-{size}-{scheme}")

    expect(page.get_by_text("No jobs yet")).to_be_visible()
    look("empty")
    page.locator("nav").get_by_role("link", name="Send files").click()
    file = write(tmp_path / "backers of the second campaign.csv", BAD)
    choose(page, file)
    card(page, file).get_by_label("Dataset", exact=True).select_option("public.t")
    expect(card(page, file).locator(".mapping")).to_be_visible()
    look("preview")
    send(page, other := write(tmp_path / "other.csv", BAD))
    expect(card(page, other).locator(".badge")).to_have_text("completed")
    look("sent")
    card(page, other).get_by_role("link", name="See the rejects").click()
    status_is(page, "completed")
    expect(page.locator(".records mark").first).to_be_visible()
    look("rejects")
    page.locator("nav").get_by_role("link", name="Jobs").click()
    expect(page.locator("table.jobs")).to_be_visible()
    look("jobs")
    page.locator("nav").get_by_role("link", name="Service").click()
    expect(page.get_by_text("Last heartbeat")).to_be_visible()
    look("service")


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


@pytest.mark.parametrize("size", SIZES)
def test_the_way_in_fits(opened: Opened, service: Starter, size: str, shot: Callable[[Any, str], None]) -> None:
    process = service(INGEST_AUTH="required")
    key = Keyring(service).make("support.team.of.the.northern.region@shop.example", "read")
    watched = opened(process, size)
    watched.tolerates.append("status of 401")
    page = watched.go()
    page.get_by_label("API key").fill("ing_wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_be_visible()
    judge(page)
    shot(page, f"key-{size}")
    page.get_by_label("API key").fill(key)
    page.keyboard.press("Enter")
    expect(page.get_by_text("No jobs yet")).to_be_visible()
    judge(page)
    page.locator("nav").get_by_role("link", name="Send files").click()
    expect(page.get_by_text("Your key may not send files")).to_be_visible()
    judge(page)
    shot(page, f"reader-{size}")
