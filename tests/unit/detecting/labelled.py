"""Files whose dialect is known because they were written in it: the labelled set that detection is judged by."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from ingest.dialect import Dialect
from tests.unit.detecting import tables
from tests.unit.detecting.tables import EVERY, Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """A file, the dialect it was written in, and the names of its columns; `kind` groups files for the accuracy table.

    `ambiguous`: read in another dialect it is as good a table. `sound`: the file without its damaged record, by which
    readings are compared, if it has one.
    """

    name: str
    kind: str
    data: bytes
    dialect: Dialect
    names: Sequence[str] = field(default_factory=tuple)
    ambiguous: bool = False
    sound: bytes = b""


def written(rows: Sequence[Sequence[str]], dialect: Dialect, *, every: bool = False, end: str = "\n") -> str:
    """Return records as text in a dialect; `every`: all fields are quoted, else those that must be."""
    return "".join(dialect.delimiter.join(_field(text, dialect, every) for text in row) + end for row in rows)


def _field(text: str, dialect: Dialect, every: bool) -> str:
    quote, escape = dialect.quote, dialect.escape
    if not quote:
        if escape:
            return (
                text.replace(escape, escape * 2)
                .replace(dialect.delimiter, escape + dialect.delimiter)
                .replace("\n", " ")
            )
        return text.replace("\n", " ").replace(dialect.delimiter, "/")
    special = any(sign in text for sign in (dialect.delimiter, quote, "\n", "\r")) or (escape and escape in text)
    if not special and not every:
        return text
    inside = (
        text.replace(escape, escape * 2).replace(quote, escape + quote) if escape else text.replace(quote, quote * 2)
    )
    return f"{quote}{inside}{quote}"


def _file(
    kind: str, table: Table, dialect: Dialect, *, before: str = "", after: str = "", every: bool = False, end: str = "\n", bom: bytes = b"", extra: str = "",
) -> Labelled:  # fmt: skip
    rows = [table.names, *table.rows] if dialect.header_rows else table.rows
    text = before + written(rows, dialect, every=every, end=end) + after
    data = bom + text.encode(dialect.encoding)
    name = "-".join(filter(None, (kind.replace(" ", "_"), table.name, extra, f"{len(table.rows)}rows")))
    return Labelled(name=name, kind=kind, data=data, dialect=dialect, names=tuple(table.names))


COMMA, SEMICOLON, TAB, PIPE = Dialect(), Dialect(delimiter=";"), Dialect(delimiter="\t"), Dialect(delimiter="|")


def files() -> list[Labelled]:
    """Return the set: at least 200 files."""
    found = [
        *_delimiters(),
        *_small(),
        *_no_header(),
        *_alone(),
        *_quotes(),
        *_around(),
        *_logs(),
        *_encodings(),
        *_lines(),
        *_damaged(),
        *_odd(),
    ]
    names = [one.name for one in found]
    assert len({*names}) == len(names), [name for name in names if names.count(name) > 1]
    return found


def _delimiters() -> Iterator[Labelled]:
    for make in EVERY:
        for label, dialect in (("comma", COMMA), ("semicolon", SEMICOLON), ("tab", TAB), ("pipe", PIPE)):
            yield _file("common delimiters", make(), dialect, extra=label)
    for make in (tables.orders, tables.people, tables.readings, tables.capitals, tables.codes):
        for delimiter in ("||", "::", "~|~", ";;", "\t\t", ", ", "^", "~", "|~|"):
            yield _file("rare delimiters", make(), Dialect(delimiter=delimiter), extra=delimiter.replace("\t", "tab"))
    for make in (tables.capitals, tables.codes, tables.points, tables.numbers):
        for delimiter in (":", " "):
            yield _file(
                "rare delimiters", make(), Dialect(delimiter=delimiter), extra={":": "colon", " ": "space"}[delimiter]
            )
    for columns in (40, 400, 1200):
        for label, dialect in (("comma", COMMA), ("semicolon", SEMICOLON), ("tab", TAB)):
            yield _file("very wide", tables.wide(columns), dialect, extra=label)


def _small() -> Iterator[Labelled]:
    for count in (0, 1, 2, 3):
        for make in (tables.orders, tables.invoices, tables.people, tables.addresses, tables.times):
            table = make(3)
            for label, dialect in (("comma", COMMA), ("semicolon", SEMICOLON), ("tab", TAB)):
                yield _file("0 to 3 records", replace(table, rows=table.rows[:count]), dialect, extra=label)


def _no_header() -> Iterator[Labelled]:
    for make in (
        tables.orders,
        tables.invoices,
        tables.numbers,
        tables.readings,
        tables.people,
        tables.addresses,
        tables.points,
        tables.codes,
        tables.times,
    ):
        for label, dialect in (("comma", COMMA), ("semicolon", SEMICOLON)):
            yield _file("no header", make(), replace(dialect, header_rows=0), extra=label)
    for table in (tables.orders(1), tables.readings(1), tables.readings(2)):
        yield _file("no header", table, replace(COMMA, header_rows=0))


def _alone() -> Iterator[Labelled]:
    for table in tables.columns_alone():
        text = "\n".join([*table.names, *(row[0] for row in table.rows)]) + "\n"
        yield Labelled(
            name=f"alone-{table.name}",
            kind="one column",
            data=text.encode(),
            dialect=Dialect(delimiter="\t"),
            names=tuple(table.names),
        )


def _quotes() -> Iterator[Labelled]:
    for make in (tables.reviews, tables.addresses, tables.documents, tables.survey, tables.orders):
        for label, dialect in (("comma", COMMA), ("semicolon", SEMICOLON), ("tab", TAB)):
            yield _file("quotes and escapes", make(), dialect, every=True, extra=f"all-{label}")
            yield _file(
                "quotes and escapes", make(), replace(dialect, quote="'"), every=True, extra=f"apostrophe-{label}"
            )
            yield _file(
                "quotes and escapes", make(), replace(dialect, escape="\\"), every=True, extra=f"backslash-{label}"
            )
    for make in (tables.reviews, tables.addresses):
        yield _file("quotes and escapes", make(), replace(COMMA, quote="'"), extra="apostrophe")
        yield _file("quotes and escapes", make(), replace(COMMA, escape="\\"), extra="backslash")
        yield _file("quotes and escapes", make(), replace(COMMA, quote="", escape="\\"), extra="escaped")
    for make in (tables.parts, tables.documents):
        yield _file("quotes and escapes", make(), replace(TAB, quote=""), extra="none")
    yield _file("quotes and escapes", tables.parts(), replace(PIPE, quote=""), extra="none-pipe")


def _around() -> Iterator[Labelled]:
    title = "Sales report\nExported by Anna on 2026-01-05\n\n"
    account = '"Kontonummer:";"DE12 3456";\n"Zeitraum:";"01.11.2025 - 30.11.2025";\n\n'
    for make in (tables.orders, tables.invoices, tables.people, tables.numbers):
        for label, dialect in (("comma", COMMA), ("semicolon", SEMICOLON), ("tab", TAB)):
            yield _file("preamble", make(), replace(dialect, skip_rows=3), before=title, extra=label)
            told = f"sep={dialect.delimiter}\n"
            yield _file("sep= line", make(), replace(dialect, skip_rows=1), before=told, extra=label)
            d = dialect.delimiter * (len(make().names) - 1)
            yield _file(
                "preamble",
                make(),
                replace(dialect, skip_rows=3),
                before=f"Sales report{d}\nof November{d}\n{d}\n",
                extra=f"padded-{label}",
            )
            yield _file("footer", make(), replace(dialect, footer_rows=1), after="\n(30 rows)\n", extra=label)
            yield _file(
                "footer",
                make(),
                replace(dialect, footer_rows=2),
                after=f"Total: 30{d}\nEnd of report{d}\n",
                extra=f"padded-{label}",
            )
            yield _file(
                "comments",
                make(),
                replace(dialect, skip_rows=2),
                before="# exported, by hand\n# 2026-01-05; v2\n",
                extra=f"leading-{label}",
            )
            table = make()
            head, tail = written([table.names, *table.rows[:9]], dialect), written(table.rows[9:], dialect)
            text = f"# made by hand\n{head}# the rest, from the archive\n{tail}"
            yield Labelled(
                name=f"comments-between-{table.name}-{label}",
                kind="comments",
                data=text.encode(),
                dialect=replace(dialect, comment="#"),
                names=tuple(table.names),
            )
    yield _file("preamble", tables.invoices(), replace(SEMICOLON, skip_rows=3), before=account, extra="account")
    for make, group in (
        (tables.years, ",Income,,Costs,\n"),
        (tables.readings, "When,,Measured,,\n"),
        (tables.times, ",Departure,Arrival,\n"),
    ):
        table = make()
        names = [" ".join(filter(None, pair)) for pair in zip(group.strip("\n").split(","), table.names, strict=True)]
        file = _file("several header rows", table, replace(COMMA, header_rows=2), before=group)
        yield replace(file, names=names)
    for make in (tables.orders, tables.capitals, tables.invoices):
        table = make()
        before = written([table.names], COMMA)
        file = _file("several header rows", table, replace(COMMA, header_rows=2), before=before, extra="again")
        yield replace(file, names=[f"{name} {name}" for name in table.names])


def _logs() -> Iterator[Labelled]:
    lines = [
        f'10.0.0.{n} - anna [10/Oct/2025:13:55:{n:02} +0000] "GET /p/{n}.html?a=b,c HTTP/1.1" 200 {n * 37}'
        for n in range(1, 30)
    ]
    access = "\n".join(lines) + "\n"
    yield Labelled(name="log-access", kind="logs", data=access.encode(), dialect=Dialect(delimiter=" ", header_rows=0))
    passwd = "".join(f"user{n}:x:{1000 + n}:{100 + n}:User {n}:/home/user{n}:/bin/sh\n" for n in range(20))
    yield Labelled(name="log-passwd", kind="logs", data=passwd.encode(), dialect=Dialect(delimiter=":", header_rows=0))
    lineitem = "".join(
        f"{n}|155190|7706|{n % 7}|17.00|21168.23|0.04|N|O|1996-03-13|egular courts above the|\n" for n in range(30)
    )
    yield Labelled(
        name="log-lineitem", kind="logs", data=lineitem.encode(), dialect=Dialect(delimiter="|", header_rows=0)
    )
    for label, dialect in (("tab", TAB), ("pipe", PIPE), ("comma", COMMA)):
        text = written(
            [
                [f"2026-01-02 03:04:{n:02}", "INFO", f"worker[{n}]", f"batch {n} done in 0.{n} s, 12 rows"]
                for n in range(30)
            ],
            replace(dialect, header_rows=0),
        )
        yield Labelled(
            name=f"log-events-{label}", kind="logs", data=text.encode(), dialect=replace(dialect, header_rows=0)
        )


def _encodings() -> Iterator[Labelled]:
    western = {
        "cp1252": (tables.invoices, tables.capitals),
        "latin-1": (tables.invoices,),
        "mac-roman": (tables.invoices,),
    }
    for encoding, makes in western.items():
        for make in makes:
            yield _file("encodings", make(), Dialect(delimiter=";", encoding=encoding), extra=encoding)
    for make in (tables.orders, tables.invoices):
        for encoding, bom in (("utf-8", b"\xef\xbb\xbf"), ("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff"), ("utf-16-le", b""), ("utf-16-be", b""),
                              ("utf-32-le", b"\xff\xfe\0\0"), ("utf-32-le", b"")):  # fmt: skip
            yield _file(
                "encodings",
                make(),
                Dialect(delimiter="\t", encoding=encoding),
                bom=bom,
                extra=f"{encoding}{'-bom' * bool(bom)}",
            )
    for encoding, words in OTHER_SCRIPTS.items():
        table = Table(
            "words", words[0].split(), [[*words[1 + n % (len(words) - 1)].split(), str(n)] for n in range(20)]
        )
        yield _file("encodings", table, Dialect(delimiter=";", encoding=encoding), extra=encoding)


OTHER_SCRIPTS = {
    "cp1250": (
        "Imię Nazwisko Miasto Numer",
        "Łukasz Żółty Kraków",
        "Świętosława Źdźbło Łódź",
        "Jiří Dvořák Plzeň",
        "Řehoř Kůň Děčín",
    ),
    "iso8859-2": ("Jméno Příjmení Město Číslo", "Jiří Dvořák Plzeň", "Řehoř Kůň Děčín", "Žofie Šťastná Třebíč"),
    "cp1251": ("Имя Фамилия Город Номер", "Пётр Иванов Москва", "Анна Смирнова Петербург", "Олег Кузнецов Казань"),
    "koi8-r": ("Имя Фамилия Город Номер", "Пётр Иванов Москва", "Анна Смирнова Петербург"),
    "cp1253": ("Όνομα Επώνυμο Πόλη Αριθμός", "Γιώργος Παπαδόπουλος Αθήνα", "Μαρία Νικολάου Θεσσαλονίκη"),
    "cp1254": ("Ad Soyad Şehir No", "Ayşe Yılmaz İstanbul", "Oğuz Şahin Çanakkale", "Gül Güneş Muğla"),  # noqa: RUF001
    "cp1255": ("שם משפחה עיר מספר", "דוד כהן ירושלים", "שרה לוי חיפה"),
    "cp1256": ("الاسم العائلة المدينة الرقم", "محمد حسن القاهرة", "فاطمة علي بيروت"),
    "cp932": ("名前 名字 都市 番号", "太郎 山田 東京都", "花子 鈴木 大阪府"),
    "gb18030": ("名字 姓 城市 号码", "小明 王 北京市", "四 李 上海市"),
    "cp949": ("이름 성 도시 번호", "철수 김 서울시", "영희 이 부산시"),
}


def _lines() -> Iterator[Labelled]:
    for make in (tables.orders, tables.reviews, tables.invoices):
        for label, dialect in (("comma", COMMA), ("semicolon", SEMICOLON)):
            yield _file("line ends", make(), replace(dialect, newline="cr"), end="\r", extra=f"cr-{label}")
            yield _file("line ends", make(), dialect, end="\r\n", extra=f"crlf-{label}")
            table = make()
            text = "".join(
                written([row], dialect, end="\r\n" if n % 3 else "\n")
                for n, row in enumerate([table.names, *table.rows])
            )
            yield Labelled(
                name=f"lines-mixed-{table.name}-{label}",
                kind="line ends",
                data=text.encode(),
                dialect=dialect,
                names=tuple(table.names),
            )
            cut = written([table.names, *table.rows], dialect).removesuffix("\n")
            yield Labelled(
                name=f"lines-unended-{table.name}-{label}",
                kind="line ends",
                data=cut.encode(),
                dialect=dialect,
                names=tuple(table.names),
            )


def _damaged() -> Iterator[Labelled]:
    for make in (tables.orders, tables.invoices, tables.addresses, tables.people):
        for label, dialect in (("comma", COMMA), ("semicolon", SEMICOLON), ("tab", TAB)):
            table, d = make(), dialect.delimiter
            lines = written([table.names, *table.rows], dialect).split("\n")
            changes = {
                "opened": lines[5].split(d, 1)[0] + d + '"' + lines[5].split(d, 1)[1],
                "short": d.join(lines[5].split(d)[:2]),
                "long": lines[5] + d * 3 + "x",
                "other": lines[5].replace(d, "|"),
            }
            for change, line in changes.items():
                text = "\n".join([*lines[:5], line, *lines[6:]])
                sound = "\n".join([*lines[:5], *lines[6:]])
                yield Labelled(
                    sound=sound.encode(),
                    name=f"damaged-{change}-{table.name}-{label}",
                    kind="one record damaged",
                    data=text.encode(),
                    dialect=dialect,
                    names=tuple(table.names),
                )


def _odd() -> Iterator[Labelled]:
    for name, text, dialect in (
        ("hash-header", "#id,name\n1,Bob\n2,Ann\n", COMMA),
        ("padded", "id  | name | town\n1   | Bob  | Oslo\n22  | Ann  | Bath\n333 | Zoe  | Lima\n", replace(PIPE, trim=True)),
        ("quoted-padded", '"id", "name", "x"\n"1", "Bob, B.", "2"\n"2", "Ann", "3"\n', Dialect(delimiter=", ")),
        ("blank-first", "\n\nid,name\n1,Bob\n2,Ann\n", COMMA),
        ("null-words", "id,a,b\n1,NULL,3\n2,4,NULL\n3,NULL,NULL\n", COMMA),
        ("header-quoted", '"id";"amount"\n1;2,5\n2;3,5\n', SEMICOLON),
        ("functions", "name,formula\nf,\"sum(a, b)\"\ng,\"max(c, d)\"\n", COMMA),
        ("truncated", "id,name,town\n1,Bob,Oslo\n2,Ann,Bath\n3,Zo", COMMA),
        ("empty-column", "a,,c\n1,,3\n4,,6\n", COMMA),
        ("pipe-empty", "id|note|x\n1||2\n2|ok|3\n3||4\n", PIPE),
        ("trailing", "a,b,c,\n1,2,3,\n4,5,6,\n", COMMA),
        ("pairs", "1,5\n2,5\n3,5\n", replace(COMMA, header_rows=0)),
    ):  # fmt: skip
        yield Labelled(
            name=f"odd-{name}",
            kind="oddities",
            data=text.encode(),
            dialect=dialect,
            names=tuple(filter(None, re.split(r"\s*[,;|]\s*", text.strip().split("\n")[0].replace('"', ""))))
            if dialect.header_rows and ",," not in text
            else (),
        )
    for name, text, dialect in (
        ("header", "a,b;c\n", COMMA),
        ("words", "a,b;c\nx,y;z\n", COMMA),
        ("tab", "a;b\tc\nx;y\tz\nu;v\tw\n", SEMICOLON),
    ):
        yield Labelled(name=f"ambiguous-{name}", kind="ambiguous", data=text.encode(), dialect=dialect, ambiguous=True)
