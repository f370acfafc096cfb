"""The ways to read a sample that are worth trying: delimiters, quotes and escapes that it holds. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ingest.detecting.kinds import LooksOf
from ingest.detecting.lines import END_BYTES, MOST_LINES, Lines
from ingest.detecting.masking import OPEN, mask
from ingest.detecting.reading import Reading, Row, Ways, read, rows_of

COMMON = (",", ";", "\t", "|")
# Tried when nothing common fits well: they are in texts, times and addresses too.
RARE = {":": 0.8, " ": 0.72, "~": 0.95, "^": 0.95, "§": 0.95, "¦": 0.95, "#": 0.8, "!": 0.8, "&": 0.8, "*": 0.8}
FITS_WELL = 0.7
COLON_INSIDE = re.compile(
    r"^.*(?:(?<![\d.,])\d{1,2}:[0-5]\d(?![\d.,])|:\\|://)", re.MULTILINE
)  # of times, paths and addresses
# Runs of signs that may be a delimiter together.
SIGN = r"[|~^#@!$%&*+=<>§¦]"
RUN = re.compile(rf"(?P<run>(?P<one>[;:,]|{SIGN})(?:(?P=one){{1,3}}|{SIGN}(?P=one))|\t{{2,4}}|, | [|;:] )")
LOOKED_AT = 20  # lines
MOST_RUNS = 6
UNUSUAL = 0.8  # `,,` and `;;` are empty fields more often than delimiters
NO_QUOTE = 0.93
APOSTROPHE = 0.985
BACKSLASH = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What holds for every way: the lines to leave out, and what the request says (None: nothing)."""

    lines: Lines
    skip_lines: int = 0
    comment: str = ""
    delimiter: str | None = None
    quote: str | None = None
    escape: str | None = None


def readings(frame: Frame) -> list[Reading]:
    """Return the sample read in every way worth trying, the likeliest first."""
    looks = LooksOf()
    if frame.delimiter is not None:
        return _sorted(_read_all(frame, {frame.delimiter: 1.0}, looks))
    found = _sorted(_read_all(frame, {"": 1.0, **_present(frame, dict.fromkeys(COMMON, 1.0)), **_runs(frame)}, looks))
    if found and found[0].score < FITS_WELL:
        inside = 2 * len(COLON_INSIDE.findall(frame.lines.text)) > frame.lines.text.count("\n")
        rare = {sign: prior for sign, prior in RARE.items() if not (inside and sign == ":")}
        found = _sorted([*found, *_read_all(frame, _present(frame, rare), looks)])
    return found


def end_of(reading: Reading, frame: Frame) -> Sequence[Row]:
    """Return the last records of the file in the way of a reading, none where the end of the file is not known."""
    if frame.lines.whole:
        return reading.rows[reading.start + 1 :]
    ways = reading.ways
    masked = mask(frame.lines.end, ways.quote, ways.escape, (ways.delimiter,) if ways.delimiter else ())
    return rows_of(masked, ways.delimiter, comment=frame.comment, most=END_BYTES)


def _sorted(found: Sequence[Reading] | Iterator[Reading]) -> list[Reading]:
    return sorted(found, key=lambda reading: -reading.score)


def _present(frame: Frame, priors: Mapping[str, float]) -> dict[str, float]:
    return {sign: prior for sign, prior in priors.items() if sign in frame.lines.text}


def _runs(frame: Frame) -> dict[str, float]:
    """Return the runs of signs that are in many of the first lines; titles and the insides of quotes have none."""
    lines = [line for line in frame.lines.text.split("\n", LOOKED_AT + frame.skip_lines) if line.strip()]
    looked_at = lines[-LOOKED_AT:-1] or lines
    runs = {found["run"]: None for line in looked_at[-3:] for found in RUN.finditer(line)}
    steady = [run for run in runs if 5 * sum(run in line for line in looked_at) >= 2 * len(looked_at)]
    return {run: UNUSUAL if run[0] in ",;" and run[0] == run[-1] else 1.0 for run in steady[:MOST_RUNS]}


def _read_all(frame: Frame, delimiters: Mapping[str, float], looks: LooksOf) -> Iterator[Reading]:
    around = tuple(dict.fromkeys(delimiter for delimiter in delimiters if delimiter))
    for quote, escape, masked, prior in _masks(frame, around):
        for delimiter, own in delimiters.items():
            rows = rows_of(
                masked, delimiter, skip_lines=frame.skip_lines, comment=frame.comment, most=MOST_LINES
            )  # fmt: skip
            if rows:
                ways = Ways(delimiter=delimiter, quote=quote, escape=escape)
                yield read(ways, rows, looks, whole=frame.lines.whole, prior=own * prior)


def _masks(frame: Frame, around: Sequence[str]) -> Iterator[tuple[str, str, str, float]]:
    """Return the quotes and escapes worth trying, each with the text masked so, and how usual it is."""
    text = frame.lines.text
    for quote, prior in _quotes(frame, around):
        for escape, own in _escapes(frame, quote, around):
            masked = mask(text, quote, escape, around)
            if OPEN in masked or prior == 1.0 or not quote or frame.quote is not None:
                yield quote, escape, masked, prior * own


def _quotes(frame: Frame, around: Sequence[str]) -> Iterator[tuple[str, float]]:
    text = frame.lines.text
    if frame.quote is not None:
        yield frame.quote, 1.0
        return
    yield '"', 1.0
    if "'" in text:
        yield "'", APOSTROPHE
    if '"' in text or any(f"\\{sign}" in text for sign in around):
        yield "", NO_QUOTE


def _escapes(frame: Frame, quote: str, around: Sequence[str]) -> Iterator[tuple[str, float]]:
    if frame.escape is not None:
        yield frame.escape, 1.0
        return
    yield "", 1.0
    text = frame.lines.text
    if quote and f"\\{quote}" in text:
        yield "\\", BACKSLASH
    if not quote and any(f"\\{sign}" in text for sign in around):
        yield "\\", BACKSLASH
