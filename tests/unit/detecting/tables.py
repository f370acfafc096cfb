"""Tables as people keep them, made up: the sources of the labelled files."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

FIRST = ("Anna", "Björn", "Chloé", "Dmitri", "Eve", "Françoise", "Günter", "Hana", "Íñigo", "Jo")
LAST = ("O'Neill", "Müller", "Smith", "van der Berg", "Núñez", "Lindqvist", "Dvořák", "Ng", "St. John", "D'Angelo")
TOWNS = ("Malmö", "Köln", "New York", "Saint-Étienne", "Łódź", "Reykjavík", "Rio de Janeiro", "Bath", "Zürich", "Oslo")
THINGS = ("bolt M6", "hex nut", "cable 2 m", "LED panel", "door handle", "paint, white", "filter (HEPA)", "O-ring")
SENTENCES = (
    "Hello, world", "It works", "Too slow, too big, too late", "See section 3; it says more", "Why?", "I said no, thanks",
    "Nothing to add", "Fine: really", "Great value, fast delivery, would buy again", "A bit of this and a bit of that",
)  # fmt: skip
START = date(2025, 11, 28)

Rows = Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Table:
    """Names of columns, and records."""

    name: str
    names: Sequence[str]
    rows: Rows


def _made(name: str, names: str, make: Callable[[random.Random, int], Sequence[object]], count: int = 30) -> Table:
    pick = random.Random(name)
    return Table(name, names.split("/"), [[str(value) for value in make(pick, n)] for n in range(1, count + 1)])


def _day(n: int, form: str = "%Y-%m-%d") -> str:
    return (START + timedelta(days=3 * n)).strftime(form)


def _decimal(value: float, comma: bool = True) -> str:
    text = f"{value:,.2f}"
    return text.replace(",", "_").replace(".", ",").replace("_", ".") if comma else text


def orders(count: int = 30) -> Table:
    return _made("orders", "order_id/ordered/customer/town/amount/paid", lambda pick, n: (
        1000 + n, _day(n), f"{pick.choice(FIRST)} {pick.choice(LAST)}", pick.choice(TOWNS), f"{pick.uniform(1, 900):.2f}", pick.choice(("true", "false")),
    ), count)  # fmt: skip


def invoices(count: int = 30) -> Table:
    return _made("invoices", "Rechnung/Datum/Kunde/Ort/Betrag/Menge", lambda pick, n: (
        f"RE-{n:05}", _day(n, "%d.%m.%Y"), f"{pick.choice(('Müller', 'Jäger', 'Groß'))} GmbH & Co. KG", pick.choice(("Köln", "Düsseldorf", "Übersee")), _decimal(pick.uniform(1, 5000)), pick.randint(1, 40),
    ), count)  # fmt: skip


def numbers(count: int = 30) -> Table:
    return _made(
        "numbers",
        "x/y/z",
        lambda pick, n: (_decimal(pick.uniform(0, 9)), _decimal(pick.uniform(0, 99)), _decimal(pick.uniform(0, 999))),
        count,
    )


def readings(count: int = 30) -> Table:
    moment = datetime(2026, 1, 2, 3, 4, 5)
    return _made("readings", "time/sensor/temperature/humidity/voltage", lambda pick, n: (
        (moment + timedelta(minutes=10 * n)).isoformat(), f"s{pick.randint(1, 9)}", f"{pick.gauss(20, 4):.1f}", pick.randint(20, 99), f"{pick.uniform(3, 4):.3f}",
    ), count)  # fmt: skip


def people(count: int = 30) -> Table:
    return _made("people", "first name/last name/email/phone/birthday", lambda pick, n: (
        pick.choice(FIRST), pick.choice(LAST), f"user{n}@example.org", f"+46 {pick.randint(10, 99)} {pick.randint(100, 999)} {pick.randint(10, 99)}", _day(-50 * n),
    ), count)  # fmt: skip


def capitals(count: int = 30) -> Table:
    lands = (("Sweden", "Stockholm", "Swedish"), ("Peru", "Lima", "Spanish"), ("Kenya", "Nairobi", "Swahili"), ("Japan", "Tokyo", "Japanese"),
             ("Fiji", "Suva", "English"), ("Chad", "N'Djamena", "French"), ("Brazil", "Brasília", "Portuguese"), ("Iran", "Tehran", "Persian"))  # fmt: skip
    return _made("capitals", "country/capital/language", lambda pick, n: lands[n % len(lands)], min(count, len(lands)))


def addresses(count: int = 30) -> Table:
    return _made("addresses", "id/name/address/country", lambda pick, n: (
        n, f"{pick.choice(LAST)}, {pick.choice(FIRST)}", f"{pick.randint(1, 99)} High Street, Flat {n}, {pick.choice(TOWNS)}", pick.choice(("SE", "DE", "US")),
    ), count)  # fmt: skip


def reviews(count: int = 30) -> Table:
    return _made("reviews", "id/stars/title/text", lambda pick, n: (
        n, pick.randint(1, 5), pick.choice(SENTENCES), f"{pick.choice(SENTENCES)}.\nSecond line, \"quoted\" {n}; and so on.",
    ), count)  # fmt: skip


def parts(count: int = 30) -> Table:
    return _made("parts", "sku/description/size/stock", lambda pick, n: (
        f"A{n:03}-{pick.choice('XYZ')}", pick.choice(THINGS), f'{pick.randint(1, 12)}" x {pick.randint(1, 12)}"', pick.randint(0, 500),
    ), count)  # fmt: skip


def paths(count: int = 30) -> Table:
    return _made(
        "paths",
        "file/folder/bytes",
        lambda pick, n: (f"report {n}.txt", f"C:\\data\\{pick.choice(('new', 'temp'))}\\", pick.randint(10, 99999)),
        count,
    )


def documents(count: int = 30) -> Table:
    return _made(
        "documents",
        "id/payload/at",
        lambda pick, n: (
            n,
            f'{{"a": {n}, "b": ["x", "y"], "c": "{pick.choice(TOWNS)}"}}',
            f"{_day(n)} 12:{n % 60:02}:00+00:00",
        ),
        count,
    )


def tags(count: int = 30) -> Table:
    return _made(
        "tags",
        "id/tags/url",
        lambda pick, n: (
            n,
            ";".join(pick.sample(("red", "green", "blue", "grey"), pick.randint(1, 3))),
            f"https://example.org/a?x={n}&y=2;z=3",
        ),
        count,
    )


def lists(count: int = 30) -> Table:
    return _made(
        "lists",
        "id/options/total",
        lambda pick, n: (n, "|".join(pick.sample(("S", "M", "L", "XL"), 2)), f"{pick.uniform(1, 9):.2f}"),
        count,
    )


def times(count: int = 30) -> Table:
    return _made(
        "times",
        "train/departs/arrives/track",
        lambda pick, n: (
            f"IC {100 + n}",
            f"{n % 24:02}:{pick.randint(0, 59):02}",
            f"{(n + 2) % 24:02}:{pick.randint(0, 59):02}",
            pick.randint(1, 12),
        ),
        count,
    )


def years(count: int = 30) -> Table:
    return _made(
        "years",
        "country/2019/2020/2021/2022",
        lambda pick, n: (TOWNS[n % 10], *(f"{pick.uniform(1, 90):.1f}" for _ in range(4))),
        min(count, 10),
    )


def codes(count: int = 30) -> Table:
    return _made(
        "codes",
        "from/to/flight/class",
        lambda pick, n: (
            pick.choice(("ARN", "JFK", "LHR")),
            pick.choice(("CDG", "FRA", "MUC")),
            f"SK{pick.randint(100, 999)}",
            pick.choice("YCF"),
        ),
        count,
    )


def sparse(count: int = 30) -> Table:
    return _made(
        "sparse",
        "id/note/closed/owner/remark",
        lambda pick, n: (
            n,
            "" if n % 3 else "see below",
            "" if n % 4 else _day(n),
            "" if n % 2 else pick.choice(FIRST),
            "",
        ),
        count,
    )


def money(count: int = 30) -> Table:
    return _made(
        "money",
        "account/balance/limit/rate",
        lambda pick, n: (
            f"{pick.randint(10**9, 10**10 - 1)}",
            f"${_decimal(pick.uniform(1, 90000), False)}",
            f"${_decimal(pick.uniform(1, 90000), False)}",
            f"{pick.uniform(0, 9):.1f}%",
        ),
        count,
    )


def survey(count: int = 30) -> Table:
    return _made(
        "survey",
        "Timestamp/How satisfied are you, overall?/What could be better?/Would you recommend us (1-5)?",
        lambda pick, n: (
            _day(n, "%m/%d/%Y") + f" {n % 24}:05:09",
            pick.choice(("Very", "A little", "Not at all")),
            pick.choice(SENTENCES),
            pick.randint(1, 5),
        ),
        count,
    )


def points(count: int = 30) -> Table:
    return _made(
        "points", "lat/lon", lambda pick, n: (f"{pick.uniform(-90, 90):.6f}", f"{pick.uniform(-180, 180):.6f}"), count
    )


def wide(columns: int, count: int = 6) -> Table:
    pick = random.Random(columns)
    return Table(
        f"wide{columns}",
        [f"v{n}" for n in range(columns)],
        [[str(pick.randint(0, 999)) for _ in range(columns)] for _ in range(count)],
    )


def column(name: str, values: Sequence[str]) -> Table:
    return Table(f"one_{name.replace(' ', '_')}", [name], [[value] for value in values])


def columns_alone() -> list[Table]:
    """Tables of one column, whose texts hold what is a delimiter elsewhere."""
    pick = random.Random("alone")
    return [
        column("id", [str(n) for n in range(1, 30)]),
        column("email", [f"user{n}@example.org" for n in range(20)]),
        column("comment", [pick.choice(SENTENCES) for _ in range(25)]),
        column("departs", [f"{n % 24:02}:{n:02}" for n in range(20)]),
        column("price", [_decimal(pick.uniform(1, 99)) for _ in range(20)]),
        column("amount", [_decimal(pick.uniform(1, 99999), False) for _ in range(20)]),
        column("full name", [f"{pick.choice(FIRST)} {pick.choice(LAST)}" for _ in range(20)]),
        column("url", [f"https://example.org/p/{n}?a={n}&b=1" for n in range(20)]),
        column("day", [_day(n, "%d.%m.%Y") for n in range(20)]),
        column("address", [f"{n} High Street" for n in range(20)]),
        column("title", [pick.choice(THINGS) for _ in range(20)]),
        column("moment", [f"{_day(n)} {n % 24:02}:30:00" for n in range(20)]),
    ]


EVERY = (orders, invoices, numbers, readings, people, capitals, addresses, reviews, parts, paths, documents, tags, lists, times,
         years, codes, sparse, money, survey, points)  # fmt: skip
