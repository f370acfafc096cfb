"""The benchmark measures what it says: small, to its end, each load checked before its time counts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.benchmark.contest import Contender, Race, Target, hold
from scripts.benchmark.data import Repeated, dirty, halves, twice
from scripts.benchmark.measuring import BenchmarkError, Cost, TooLong
from scripts.benchmark.proxy import Counts, Messages
from tests.processes import clean_environment

ROOT = Path(__file__).parents[2]


def test_a_small_load_is_measured_from_end_to_end(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = subprocess.run(
        [sys.executable, "-m", "scripts.benchmark", "load", "--scale", "0.01", "--runs", "1", "--json", str(report)],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert r"this service / psql \copy = " in done.stdout
    found = json.loads(report.read_text())
    assert found["machine"]["postgresql"]["server_version"].startswith("18")
    lineitem, flights = found["benchmarks"]
    assert (lineitem["rows"], flights["rows"]) == (60_175, 33_678)
    ran = set(lineitem["contenders"])
    assert {
        "this service",
        r"psql \copy",
        r"two psql \copy, file split",
        "asyncpg, unnest of 1000 rows, 5 at once",
    } <= ran
    for contender in lineitem["contenders"].values():
        (turn,) = contender["turns"]
        assert turn["seconds"] > 0
        assert turn["cpu_s"] > 0
    (service,) = lineitem["contenders"]["this service"]["turns"]
    assert service["peak_rss_mb"]["ingest"] > 50
    assert service["database_cpu_s"] > 0
    assert [ratio["bound"] for ratio in lineitem["ratios"]] == [0.65, 1.12, 8.0]


def test_dialects_and_a_quote_on_line_2_are_measured(tmp_path: Path) -> None:
    """200 MB with a quote that is never closed: one record is rejected, all others are loaded; or the file is refused."""
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "scripts.benchmark", "dialects", "quote", "--scale", "0.01", "--runs", "1"]
    done = subprocess.run(
        [*command, "--json", str(report)],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    dialects, recovered, refused = json.loads(report.read_text())["benchmarks"]
    assert dialects["rows"] == 60_175
    assert [ratio["bound"] for ratio in dialects["ratios"]] == [1.3] * 4
    (turn,) = recovered["contenders"]["this service, records follow"]["turns"]
    assert turn["facts"]["peak_rss_mb"] < 200
    (turn,) = refused["contenders"]["this service, no record follows"]["turns"]
    assert turn["facts"]["peak_rss_mb"] < 200


def test_contenders_take_turns_in_changing_order() -> None:
    turns: list[str] = []

    def contender(name: str, seconds: float, missing: str | None = None) -> Contender:
        def turn() -> Cost:
            turns.append(name)
            return Cost(seconds=seconds * (1 + len(turns)))

        return Contender(name=name, turn=turn, missing=missing)

    race = Race(
        name="r",
        title="",
        contenders=[contender("a", 1), contender("b", 2), contender("c", 3, "why")],
    )
    outcome = hold(race, 2)
    assert turns == ["a", "b", "b", "a"]
    assert (outcome.figures("a"), outcome.figures("b"), outcome.figures("c")) == ([2, 5], [6, 8], [])
    assert outcome.missing == {"c": "why"}
    assert outcome.ratio(Target(ours="a", theirs="b", bound=1)) == (0.5, 2 / 6, 5 / 8)
    assert outcome.ratio(Target(ours="a", theirs="c", bound=1)) is None


def test_a_wrong_load_is_an_error_that_names_the_contender() -> None:
    def turn() -> Cost:
        raise BenchmarkError("too few rows")

    with pytest.raises(BenchmarkError, match="r: a: too few rows"):
        hold(Race(name="r", title="", contenders=[Contender(name="a", turn=turn)]), 1)


def test_complete_rounds_count_when_the_time_is_over() -> None:
    turns: list[str] = []

    def turn() -> Cost:
        turns.append("a")
        if len(turns) == 4:
            raise TooLong("over")
        return Cost(seconds=1)

    pair = [Contender(name=name, turn=turn) for name in ("a", "b")]
    outcome = hold(Race(name="r", title="", contenders=pair), 5)
    assert {name: len(costs) for name, costs in outcome.costs.items()} == {"a": 1, "b": 1}
    turns[:] = ["a"] * 3
    with pytest.raises(TooLong):
        hold(Race(name="r", title="", contenders=pair), 5)


def test_files_with_faults_have_as_many_as_they_say(tmp_path: Path) -> None:
    source = tmp_path / "source.csv"
    lines = [b"h" * 9 + b"\n", *(b",".join(b"%d" % n for _ in range(16)) + b"\n" for n in range(1, 4001))]
    source.write_bytes(b"".join(lines))

    spoiled = dirty(source)
    assert spoiled.bad == 40
    good = spoiled.good.read_bytes().splitlines(keepends=True)
    bad = [line for line in spoiled.path.read_bytes().splitlines(keepends=True) if line not in set(good)]
    assert (len(good), len(bad)) == (1 + 4000 - 40, 40)

    doubled, again = twice(source)
    found = doubled.read_bytes().splitlines(keepends=True)
    assert (again, len(found)) == (4, 4005)
    assert set(found) == set(lines)

    first, second = (half.read_bytes().splitlines(keepends=True) for half in halves(source))
    assert first + second[1:] == lines
    assert second[0] == lines[0]
    assert len(second) > 1

    body = Repeated(source, 3 * source.stat().st_size)
    sent = b"".join(body)
    assert (len(sent), sent.count(b"\n") - 1) == (body.size, body.rows) == (len(sent), 12_000)


@pytest.mark.parametrize("piece", [1, 3, 7, 1000])
def test_the_proxy_counts_messages_wherever_they_are_cut(piece: int) -> None:
    startup = (12).to_bytes(4, "big") + (3 << 16).to_bytes(4, "big") + b"user"
    encryption = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")
    typed = [(b"Q", b"begin\0"), (b"d", b"x" * 500), (b"d", b""), (b"c", b""), (b"E", b"12345"), (b"S", b"")]
    sent = encryption + startup + b"".join(kind + (4 + len(data)).to_bytes(4, "big") + data for kind, data in typed)
    counts = Counts()
    messages = Messages(counts)
    for start in range(0, len(sent), piece):
        messages.feed(sent[start : start + piece])
    assert counts.messages == {"Q": 1, "d": 2, "c": 1, "E": 1, "S": 1}
    assert (counts.statements, counts.trips, counts.copied_bytes) == (2, 2, 500)
