"""A real Chromium on a real service. Whatever the console calls an error fails the test, a broken policy too."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.needed import missing
from tests.processes import Process

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE_MS = 90_000
# Of an upload that is interrupted; with 1000 the tests take minutes.
UPLOAD_MB = int(os.environ.get("INGEST_TEST_UPLOAD_MB", "45"))
SIZES = {"phone": (360, 740), "desk": (1280, 800), "wall": (2560, 1440)}

# What a browser says of a request that fails, when the test has made it fail.
LOST = r"net::ERR_|Failed to load resource"

HEADER = "id,name\n"
Opened = Callable[..., "Watched"]
Shot = Callable[[Any, str], None]


class Watched:
    """A page of one browser of its own, and what it complained about; `tolerates` are patterns of what a test causes."""

    def __init__(self, context: playwright.BrowserContext, url: str) -> None:
        self.context = context
        self.url = url
        # A file that is recognised as nothing is refused before a dataset is picked for it.
        self.tolerates = [r"status of 422 .*/preview\?dataset=auto"]
        self.complaints: list[str] = []
        self.page = context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _hear(self, message: playwright.ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.text} ({message.location.get('url')})")

    def go(self, view: str = "#/") -> playwright.Page:
        """Show a view."""
        self.page.goto(f"{self.url}/{view}")
        return self.page

    def verdict(self) -> list[str]:
        """Return the complaints that nobody expected."""
        return [text for text in self.complaints if not any(re.search(pattern, text) for pattern in self.tolerates)]


def _driver() -> playwright.Playwright:
    """Start the driver, on a loop of asyncio: the bridge to the database has replaced what makes new ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "new_event_loop", asyncio.SelectorEventLoop)
        return playwright.sync_playwright().start()


def _program() -> str | None:
    named = os.environ.get("INGEST_TEST_BROWSER")
    return named or next((found for name in PROGRAMS if (found := shutil.which(name))), None)


@pytest.fixture(scope="package")
def chromium() -> Iterator[playwright.Browser]:
    """The Chromium of this machine, or the one that INGEST_TEST_BROWSER names; none is ever downloaded."""
    program = _program()
    if program is None:
        missing(f"no Chromium: none of {', '.join(PROGRAMS)} is installed (INGEST_TEST_BROWSER names another)")
    driver = _driver()
    try:
        # Its own sandbox needs rights that containers do not have; it only ever sees our pages.
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()
    finally:
        driver.stop()  # before other tests: while it runs, its loop is that of the thread


@pytest.fixture
def opened(chromium: playwright.Browser) -> Iterator[Opened]:
    """Open the page of a service: `opened(process)`; the verdict on all that were opened comes at the end."""
    watched: list[Watched] = []

    def open_page(process: Process, size: str = "desk", **options: object) -> Watched:
        width, height = SIZES[size]
        context = chromium.new_context(viewport={"width": width, "height": height}, locale="en-GB", **options)
        watched.append(Watched(context, process.url))
        return watched[-1]

    yield open_page
    verdicts = [one.verdict() for one in watched]
    for one in watched:
        one.context.close()
    assert not any(verdicts), verdicts


@pytest.fixture
def shot() -> Shot:
    """Keep a picture in the folder that INGEST_TEST_PICTURES names, if it does."""
    folder = os.environ.get("INGEST_TEST_PICTURES")

    def keep(page: playwright.Page, name: str) -> None:
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)

    return keep


@pytest.fixture
def large_csv(tmp_path: Path) -> Path:
    """More than one request carries; INGEST_TEST_UPLOAD_MB says how many megabytes."""
    line = "x" * 290
    with (path := tmp_path / "large.csv").open("w", encoding="ascii") as file:
        file.write(HEADER)
        file.writelines(f"{number},{line}\n" for number in range(UPLOAD_MB * 1_000_000 // 300))
    return path
