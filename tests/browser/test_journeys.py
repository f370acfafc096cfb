"""What people do on the page, from the first click to the rows in the table."""

from __future__ import annotations

import gzip
import re
import signal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.acceptance.client import session, until
from tests.acceptance.keyed import Keyring
from tests.browser.conftest import HEADER, LOST, PATIENCE_MS, UPLOAD_MB, Opened, Watched
from tests.conftest import Psql
from tests.processes import Starter

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect

expect.set_options(timeout=PATIENCE_MS)

# Slow enough to be interrupted, and how long the whole may take.
SLOW_BYTES_PER_S = UPLOAD_MB * 120_000
UPLOAD_MS = PATIENCE_MS + UPLOAD_MB * 1000
LARGE = pytest.mark.timeout(300 + UPLOAD_MB * 2)
FITS = "document.documentElement.scrollWidth <= innerWidth"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def choose(page: Any, *files: Path) -> None:
    page.set_input_files("#files", files)


def card(page: Any, file: Path) -> Any:
    """What the page shows of a file that was chosen."""
    return page.get_by_role("article", name=file.name, exact=True)


def upload(page: Any, file: Path) -> None:
    button = card(page, file).get_by_role("button", name="Upload", exact=True)
    expect(button).to_be_enabled()
    button.click()


def send(page: Any, file: Path, dataset: str = "public.t") -> None:
    """Choose a file, pick its dataset, look at the preview, upload."""
    choose(page, file)
    card(page, file).get_by_label("Dataset", exact=True).select_option(dataset)
    expect(card(page, file).locator(".mapping")).to_be_visible()
    upload(page, file)


def on_its_way(page: Any, file: Path) -> None:
    """Wait until a part of the file is sent."""
    bar = card(page, file).get_by_label("Upload", exact=True)
    until(lambda: bar.evaluate("bar => bar.value") > 0.4, "a good part of the file is sent")


def half_sent(watched: Watched, file: Path, *tolerates: str) -> tuple[Any, Any]:
    """Send a part of a file over a slow line; returns the page, and what makes the line quick again."""
    watched.tolerates += tolerates
    page = watched.go("#/send")
    slow = slowed(watched, SLOW_BYTES_PER_S)
    send(page, file)
    on_its_way(page, file)
    return page, slow


def status_is(page: Any, word: str) -> None:
    expect(page.locator("main .badge").first).to_have_text(word)


def numbers(page: Any) -> dict[str, int]:
    """The counts of the job that is shown."""
    pairs = zip(page.locator(".counts dt").all_inner_texts(), page.locator(".counts dd").all_inner_texts(), strict=True)
    return {name: int(text.replace(",", "")) for name, text in pairs}


def rows_of(file: Path) -> str:
    """How many rows the table must have of a file, and how many different ones."""
    with file.open("rb") as lines:
        number = sum(1 for _ in lines) - 1
    return f"{number}|{number}"


def slowed(watched: Watched, bytes_per_s: int) -> Any:
    """Let the browser send no faster; -1 for as fast as it can."""
    session = watched.context.new_cdp_session(watched.page)
    session.send("Network.enable")
    limits = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_per_s}
    session.send("Network.emulateNetworkConditions", limits)
    return session


def test_a_file_is_sent_and_seen_to_the_end(opened: Opened, service: Starter, psql: Psql, tmp_path: Path) -> None:
    psql("create table t (id int primary key, name text)")
    process = service()
    page = opened(process).go()
    expect(page.get_by_text("No jobs yet")).to_be_visible()

    page.locator("main").get_by_role("link", name="Send files").first.click()
    file = write(tmp_path / "people.csv", HEADER + "".join(f"{n},name {n}\n" for n in range(1, 1001)))
    send(page, file)
    expect(page.locator(".send .badge")).to_have_text("completed")
    expect(page.locator(".send")).to_contain_text("1,000 rows in the table")
    page.get_by_role("link", name="Open the job").click()

    status_is(page, "completed")
    assert numbers(page) == {
        "Inserted": 1000,
        "Updated": 0,
        "Unchanged": 0,
        "Skipped": 0,
        "Rejected": 0,
        "Records": 1000,
    }
    assert psql("select count(*) from t") == "1000"
    expect(page.locator(".strip i.completed").first).to_be_visible()
    page.get_by_role("link", name="Jobs", exact=True).click()
    expect(page.locator("table.jobs tbody tr")).to_have_count(1)
    page.get_by_label("State").select_option("failed")
    expect(page.get_by_text("No job fits")).to_be_visible()


def test_a_dataset_is_recognised_and_a_column_is_mapped_by_hand(
    opened: Opened, service: Starter, psql: Psql, tmp_path: Path
) -> None:
    psql("create table t (id int primary key, name text)")
    page = opened(service()).go("#/send")

    file = write(tmp_path / "customers.csv", "E-Mail-Adresse;Firma\na@b.example;Alpha\n")
    choose(page, file)
    expect(page.get_by_label("Dataset", exact=True)).to_contain_text("recognise: customers")
    expect(page.get_by_label("Separated by")).to_have_value(";")
    upload(page, file)
    expect(page.locator(".send .badge")).to_have_text("completed")
    assert psql("select email, company from customers") == "a@b.example|Alpha"

    choose(page, other := write(tmp_path / "other.csv", "id,nickname\n1,bob\n"))
    card(page, other).get_by_label("Dataset", exact=True).select_option("public.t")
    expect(page.get_by_text("The dataset has no such column")).to_be_visible()
    page.get_by_label("column for nickname").select_option("name")
    expect(card(page, other).get_by_text("The header fits")).to_be_visible()
    upload(page, other)
    expect(card(page, other).locator(".badge")).to_have_text("completed")
    assert psql("select id, name from t") == "1|bob"


def test_rejects_are_seen_corrected_and_sent_again(
    opened: Opened, service: Starter, psql: Psql, tmp_path: Path
) -> None:
    psql("create table t (id int primary key, name text)")
    page = opened(service()).go("#/send")
    send(page, write(tmp_path / "bad.csv", 'id,name\n1,a\nx,"b, c"\n3,d\n'))
    page.get_by_role("link", name="See the rejects").click()

    expect(page.locator(".records mark")).to_have_text("x")
    expect(page.locator(".records tbody td").last).to_have_text("b, c")
    status_is(page, "completed")
    found = numbers(page)
    assert (found["Inserted"], found["Rejected"], found["Records"]) == (2, 1, 3)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download rejects").click()
    text = Path(download.value.path()).read_text(encoding="utf-8")
    corrected = write(tmp_path / "corrected.csv", text.replace("x,", "2,", 1))
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Send the corrected file").click()
    chooser.value.set_files(corrected)

    expect(card(page, corrected).locator(".badge")).to_have_text("completed")
    assert psql("select string_agg(id || name, ' ' order by id) from t") == "1a 2b, c 3d"
    card(page, corrected).get_by_role("link", name="Open the job").click()
    page.get_by_role("link", name="an earlier file").click()
    expect(page.get_by_text("1 record, 1 resolved by corrected files")).to_be_visible()
    expect(page.get_by_role("link", name="resolved", exact=True)).to_be_visible()


def test_a_job_is_paused_resumed_and_watched_by_two(
    opened: Opened, service: Starter, psql: Psql, tmp_path: Path
) -> None:
    """Without a worker a job waits as long as the test likes."""
    psql("create table t (id int primary key, name text)")
    process = service("api")
    watched = opened(process)
    # The page looks once a second at what it has sent, so also at a job that was deleted a moment ago.
    watched.tolerates.append(r"status of 404 .*/jobs/")
    page = watched.go("#/send")
    send(page, write(tmp_path / "a.csv", HEADER + "1,a\n"))
    page.get_by_role("link", name="Open the job").click()
    status_is(page, "pending")
    other = opened(process).go(urlsplit(page.url).fragment and f"#{urlsplit(page.url).fragment}")
    status_is(other, "pending")

    page.get_by_role("button", name="Pause").click()
    status_is(page, "paused")
    status_is(other, "paused")
    other.get_by_role("button", name="Resume").click()
    status_is(page, "pending")
    service("worker")
    status_is(page, "completed")
    status_is(other, "completed")
    assert numbers(page)["Inserted"] == numbers(other)["Inserted"] == 1

    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Keep it").click()
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_text("No jobs yet")).to_be_visible()
    assert psql("select count(*) from t") == "1"


def test_a_job_is_cancelled(opened: Opened, service: Starter, psql: Psql, tmp_path: Path) -> None:
    psql("create table t (id int primary key, name text)")
    page = opened(service("api")).go("#/send")
    send(page, write(tmp_path / "a.csv", HEADER + "1,a\n"))
    page.get_by_role("link", name="Open the job").click()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the load").click()
    status_is(page, "cancelled")
    expect(page.locator(".error").first).to_contain_text("cancelled")


def test_a_failed_job_says_why_and_runs_again(opened: Opened, service: Starter, psql: Psql, tmp_path: Path) -> None:
    psql("create table t (id int primary key, name text)")
    page = opened(service("api")).go("#/send")
    send(page, write(tmp_path / "a.csv", HEADER + "1,a\n"))
    page.get_by_role("link", name="Open the job").click()
    status_is(page, "pending")
    psql("alter table t rename to gone")
    service("worker")
    status_is(page, "failed")
    expect(page.locator(".error").first).to_contain_text("E_")
    psql("alter table gone rename to t")
    page.get_by_role("button", name="Retry failed chunks").click()
    status_is(page, "completed")
    assert psql("select count(*) from t") == "1"


@LARGE
def test_an_upload_outlives_the_service(opened: Opened, service: Starter, psql: Psql, large_csv: Path) -> None:
    psql("create table t (id int, name text)")
    process = service()
    page, slow = half_sent(opened(process), large_csv, LOST)
    process.kill()
    expect(page.get_by_text("waits for the service")).to_be_visible()
    expect(page.locator("#service")).to_have_text("offline")
    expect(page.locator("#notice")).to_contain_text("does not answer")

    again = service("serve", "--port", str(urlsplit(process.url).port))
    assert again.url == process.url
    slow.send(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1},
    )
    expect(page.locator(".send .badge")).to_have_text("completed", timeout=UPLOAD_MS)
    expect(page.locator("#service")).to_have_text("ok")
    assert psql("select count(*), count(distinct id) from t") == rows_of(large_csv)
    assert (
        len(re.findall(r'"POST", "path": "/api/v1/csv/files"', process.log + again.log)) == 1
    )  # gone on with, not begun again


@LARGE
def test_an_upload_is_paused_and_gone_on_with_after_a_reload(
    opened: Opened, service: Starter, psql: Psql, large_csv: Path
) -> None:
    psql("create table t (id int, name text)")
    process = service()
    page, slow = half_sent(opened(process), large_csv)
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("paused", exact=True)).to_be_visible()
    page.reload()
    slow.send(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1},
    )
    send(page, large_csv)
    expect(page.locator(".send .badge")).to_have_text("completed", timeout=UPLOAD_MS)
    assert psql("select count(*), count(distinct id) from t") == rows_of(large_csv)
    assert len(re.findall(r'"POST", "path": "/api/v1/csv/files"', process.log)) == 1


def test_a_key_opens_the_page(opened: Opened, service: Starter, psql: Psql, tmp_path: Path) -> None:
    psql("create table t (id int primary key, name text)")
    process = service(INGEST_AUTH="required", INGEST_TABLE_SCHEMAS="public")
    key = Keyring(service).make("ada", "upload", "read", "control")
    watched = opened(process)
    watched.tolerates.append(r"status of 401")
    page = watched.go()
    page.get_by_label("API key").fill("ing_wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("not a key of this service")
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("No jobs yet")).to_be_visible()
    expect(page.locator("#who")).to_contain_text("ada")

    [cookie] = watched.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/")
    assert page.evaluate("document.cookie + JSON.stringify({...localStorage, ...sessionStorage})") == "{}"
    page.goto(f"{process.url}/#/send")
    send(page, write(tmp_path / "a.csv", HEADER + "1,a\n"))
    expect(page.locator(".send .badge")).to_have_text("completed")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API key")).to_be_visible()
    assert watched.context.cookies() == []
    page.reload()
    expect(page.get_by_label("API key")).to_be_visible()


def test_a_revoked_key_closes_it(opened: Opened, service: Starter, psql: Psql) -> None:
    process = service(INGEST_AUTH="required")
    key = Keyring(service).make("ada", "read")
    watched = opened(process)
    watched.tolerates.append(r"status of 401")
    page = watched.go()
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("No jobs yet")).to_be_visible()
    psql("update ingest.keys set revoked_at = now()")
    expect(page.get_by_label("API key")).to_be_visible()


def test_what_files_say_stays_text(opened: Opened, service: Starter, psql: Psql, tmp_path: Path) -> None:
    psql('create table t (id int primary key, "<b>name</b>" text)')
    process = service()
    watched = opened(process)
    page = watched.go("#/send")
    name = "<img src=x onerror=alert(1)> \u202egnp.csv"
    evil = "<script>document.title='owned'</script>"
    long = "x" * 4000
    send(page, write(tmp_path / name, f"id,<b>name</b>\n{evil},\u202e{evil}\n1,=1+1\n{long},b\n"))
    page.get_by_role("link", name="See the rejects").click()
    expect(page.locator(".records mark").first).to_have_text(evil)
    expect(page.locator("h1")).to_contain_text("<img src=x onerror=alert(1)>")
    assert page.locator("main :is(script, img, b)").count() == 0
    assert "owned" not in page.title()
    assert page.evaluate(FITS)


@pytest.mark.parametrize(
    "name",
    [f"{'very ' * 800}long.csv", "\u202egpj.exe \u2066.csv", "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd.csv"],
    ids=["4 KB", "turned", "Hebrew"],
)
def test_a_name_of_whatever_length_or_direction(opened: Opened, service: Starter, psql: Psql, name: str) -> None:
    """Columns too. Nothing is wider than the window, and what follows the name reads as it should."""
    column = name.removesuffix(".csv")[:60]
    psql(f'create table t (id int, "{column.encode()[:63].decode(errors="ignore")}" text)')
    watched = opened(service(), "phone")
    page = watched.go("#/send")
    content = f"id,{column.encode()[:63].decode(errors='ignore')}\nx,{name}\n"
    page.set_input_files("#files", [{"name": name, "mimeType": "text/csv", "buffer": content.encode()}])
    page.get_by_label("Dataset", exact=True).select_option("public.t")
    expect(page.locator(".mapping")).to_be_visible()
    assert page.evaluate(FITS)
    page.get_by_role("button", name="Upload", exact=True).click()
    page.get_by_role("link", name="See the rejects").click()
    expect(page.locator(".records mark")).to_have_text("x")
    assert page.evaluate(FITS)
    assert page.locator("h1 bdi").count() == 1
    page.get_by_role("link", name="Jobs", exact=True).click()
    expect(page.locator("table.jobs tbody tr")).to_have_count(1)
    assert page.evaluate(FITS)


def test_several_files_go_at_once(opened: Opened, service: Starter, psql: Psql, tmp_path: Path) -> None:
    """The one that cannot be sent waits for whoever picks its dataset."""
    page = opened(service()).go("#/send")
    good = [write(tmp_path / f"{n}.csv", f"email,name\n{n}@b.example,{n}\n") for n in range(3)]
    choose(page, *good, bad := write(tmp_path / "bad.csv", "what,ever\n1,2\n"))
    for file in good:
        expect(card(page, file).get_by_role("button", name="Upload", exact=True)).to_be_enabled()
    page.get_by_role("button", name="Upload all").click()
    for file in good:
        expect(card(page, file).locator(".badge")).to_have_text("completed")
    expect(card(page, bad).get_by_role("button", name="Upload", exact=True)).to_be_disabled()
    assert psql("select string_agg(email, ' ' order by email) from customers") == "0@b.example 1@b.example 2@b.example"


@LARGE
def test_an_upload_outlives_a_lost_network(opened: Opened, service: Starter, psql: Psql, large_csv: Path) -> None:
    psql("create table t (id int, name text)")
    process = service()
    page, slow = half_sent(opened(process), large_csv, LOST)
    network = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    slow.send("Network.emulateNetworkConditions", {**network, "offline": True})
    expect(page.get_by_text("waits for the service")).to_be_visible()
    expect(page.locator("#service")).to_have_text("offline")
    slow.send("Network.emulateNetworkConditions", {**network, "offline": False})
    expect(page.locator(".send .badge")).to_have_text("completed", timeout=UPLOAD_MS)
    assert psql("select count(*), count(distinct id) from t") == rows_of(large_csv)
    assert process.log.count('"POST", "path": "/api/v1/csv/files"') == 1


def test_a_service_that_is_gone_is_said_to_be(opened: Opened, service: Starter) -> None:
    process = service()
    watched = opened(process)
    watched.tolerates.append(LOST)
    page = watched.go("#/status")
    expect(page.get_by_role("table")).to_be_visible()
    process.terminate()
    expect(page.locator("#service")).to_have_text("offline")
    expect(page.get_by_text("The service does not answer", exact=True)).to_be_visible()
    service("serve", "--port", str(urlsplit(process.url).port))
    expect(page.locator("#service")).to_have_text("ok")
    expect(page.get_by_role("table")).to_be_visible()


def test_the_history_has_pages_and_filters(opened: Opened, service: Starter, psql: Psql) -> None:
    psql("create table t (id int primary key, name text)")
    process = service("api")
    for number in range(27):
        httpx.put(
            f"{process.url}/api/v1/csv/upload/f{number}.csv?dataset=public.t", content=b"id\n1\n"
        ).raise_for_status()
    page = opened(process).go()
    rows = page.locator("table.jobs tbody tr")
    expect(rows).to_have_count(25)
    expect(rows.first).to_contain_text("f26.csv")
    page.get_by_role("button", name="Next").click()
    expect(rows).to_have_count(2)
    expect(page.get_by_text(re.compile("^26.27 of 27$"))).to_be_visible()
    page.get_by_label("State").select_option("pending")
    expect(rows).to_have_count(25)
    page.get_by_label("State").select_option("")

    search = page.get_by_label("Search by")
    search.fill("F0.CSV")  # the last but one page's, in whatever case
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("f0.csv")
    page.get_by_role("link", name="f0.csv").click()
    job = urlsplit(page.url).fragment.rsplit("/", 1)[1]
    page.go_back()
    expect(search).to_have_value("F0.CSV")
    search.fill("csv")
    expect(rows).to_have_count(25)
    page.get_by_role("button", name="Next").click()
    expect(rows).to_have_count(2)
    search.fill(job)
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("f0.csv")
    search.fill("nobody's file")
    expect(page.get_by_text("No job fits")).to_be_visible()
    page.get_by_role("button", name="Show all jobs").click()
    expect(rows).to_have_count(25)
    expect(search).to_have_value("")
    page.get_by_label("Dataset").select_option("customers")
    expect(page.get_by_text("No job fits")).to_be_visible()


def test_an_upload_that_is_cancelled_elsewhere_is_not_begun_again(
    opened: Opened, service: Starter, psql: Psql, large_csv: Path
) -> None:
    psql("create table t (id int, name text)")
    process = service()
    watched = opened(process)
    watched.tolerates.append(LOST)
    page = watched.go("#/send")
    slowed(watched, SLOW_BYTES_PER_S)
    send(page, large_csv)
    expect(page.locator(".send .badge")).to_have_text("receiving")
    page.get_by_role("button", name="Pause").click()
    job = psql("select id from ingest.jobs")
    httpx.post(f"{process.url}/api/v1/csv/jobs/{job}/cancel").raise_for_status()
    expect(page.locator(".send .badge")).to_have_text("cancelled")
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("button", name="Try again")).to_be_visible()
    assert psql("select count(*) from ingest.jobs") == "1"


def test_a_service_that_stops_says_so(opened: Opened, service: Starter, psql: Psql, dsn: str) -> None:
    """While a batch waits for a lock, the stop waits for the batch."""
    psql("create table t (id int primary key, name text)")
    process = service(SHUTDOWN_GRACE="30")
    page = opened(process)
    page.tolerates.append(LOST)
    shown = page.go()
    expect(shown.locator("#service")).to_have_text("ok")
    with session(dsn, "begin; lock table t"):
        httpx.put(f"{process.url}/api/v1/csv/upload/a.csv?dataset=public.t", content=b"id\n1\n").raise_for_status()
        expect(shown.locator("main .badge")).to_have_text("processing")
        process.signal(signal.SIGTERM)
        expect(shown.locator("#service")).to_have_text("draining")
        expect(shown.locator("#notice")).to_contain_text("takes no new files")


def test_files_that_the_page_cannot_read_are_sent(opened: Opened, service: Starter, psql: Psql, tmp_path: Path) -> None:
    """Resumably, as any other: how they are written the service finds out, and the page shows."""
    psql("create table t (id int primary key, name text)")
    page = opened(service()).go("#/send")
    for number, (name, data, read_as) in enumerate(
        [
            ("names of people.csv.gz", gzip.compress(b"id;name\n1;a\n"), "UTF-8, semicolon"),
            ("wide.csv", "id\tname\n2\tb\n".encode("utf-16"), "UTF-16-LE, tab"),
            ("ansi.csv", "id,name\n3,Zoë\n".encode("cp1252"), "CP1252, comma"),
        ]
    ):
        file = tmp_path / name
        file.write_bytes(data)
        page.locator("#files").set_input_files(file)
        card(page, file).get_by_label("Dataset").select_option("public.t")
        expect(card(page, file)).to_contain_text(f"Read as {read_as}")
        page.get_by_role("button", name="Upload", exact=True).click()
        expect(page.locator(".send .badge", has_text="completed")).to_have_count(number + 1)
    assert psql("select string_agg(id || name, ' ' order by id) from t") == "1a 2b 3Zoë"
    assert psql("select count(*) from ingest.uploads where state = 'completed'") == "3"
