"""README.md as a script: its blocks by section, their commands, what it says that they print, a shell to run them."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.acceptance.client import PATIENCE_S
from tests.processes import clean_environment

UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
# What is another one each time: jobs and the prefixes of keys.
ID = re.compile(rf"{UUID}|\b[0-9a-f]{{12}}\b")
# What the README leaves out: the rest of an object, a value, the elements of a list.
REST = "…"
ELISIONS = ((r"\[\.\.\.\]", f'["{REST}"]'), (r",\s*\.\.\.\s*}", f', "{REST}": 0}}'), (r":\s*\.\.\.", f': "{REST}"'))
# States that a job goes through by itself: which of them is seen is a matter of luck.
IN_MOTION = frozenset({"receiving", "pending", "processing"})
EXIT_CODE = re.compile(r"#.*exit code (\d)$")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block, and the heading it stands under."""

    heading: str
    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Command:
    """What is typed at a prompt, and what is printed then; no lines where the README does not show any."""

    text: str
    printed: str

    @property
    def exit_code(self) -> int:
        """The exit code: 0 unless a comment in the command says otherwise."""
        said = EXIT_CODE.search(self.text)
        return int(said[1]) if said else 0

    @property
    def only_asks(self) -> bool:
        """Whether it may be asked again until its answer is as printed: a GET that leaves no file."""
        words = self.text.split()
        return words[0] == "curl" and not {"-X", "-T", "-F", "-d", "--data-binary", "-OJ", "-i"} & set(words)


def blocks(text: str) -> Iterator[Block]:
    """Yield the fenced blocks of a Markdown text, in order."""
    heading = ""
    for found in re.finditer(r"^#+ ([^\n]+)$|^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if found[1]:
            heading = found[1]
        else:
            yield Block(heading, found[2], found[3])


def commands(block: Block) -> Iterator[Command]:
    """Yield the commands of a console block."""
    lines = block.text.splitlines()
    assert lines[0].startswith("$ "), f"{block.heading}: a console block begins with a prompt, not with {lines[0]!r}"
    while lines:
        typed = lines.pop(0).removeprefix("$ ")
        while lines and _goes_on(typed):
            typed += "\n" + lines.pop(0)
        printed = []
        while lines and not lines[0].startswith("$ "):
            printed.append(lines.pop(0))
        yield Command(typed, "\n".join(printed).strip("\n"))


def _goes_on(typed: str) -> bool:
    """Whether the shell would ask for another line: it says so itself, for all but a backslash at the end."""
    said = subprocess.run(["bash", "-n"], input=typed + "\n", capture_output=True, text=True, check=False).stderr
    return typed.endswith("\\") or bool(re.search("EOF|end.of.file", said))


@dataclass(slots=True)
class Comparison:
    """What is printed against what the README says, by shape; `ids` are the real ones for those in the README."""

    ids: dict[str, str] = field(default_factory=dict)

    def real(self, text: str) -> str:
        """The text with ids that were seen before instead of the README's."""
        return ID.sub(lambda found: self.ids.get(found[0], found[0]), text)

    def check(self, said: str, printed: str) -> None:
        """Raise AssertionError unless what was printed is like what the README says."""
        if said.startswith("{"):
            for pattern, plain in ELISIONS:
                said = re.sub(pattern, plain, said)
            self._value(json.loads(said), json.loads(printed), "")
        elif said.startswith("HTTP/"):
            self._head(said.splitlines(), printed.splitlines())
        elif said.startswith("retry: "):
            self._events(said, printed)
        else:
            self._text("\n".join(map(shape, said.splitlines())), "\n".join(map(shape, printed.splitlines())), "")
            self._learn(said, printed)

    def _value(self, said: Any, is_: Any, where: str) -> None:
        if said == REST:
            return
        if isinstance(said, dict):
            assert isinstance(is_, dict), f"{where} is {is_!r}"
            extra = set() if REST in said else set(is_) - set(said)
            missing = set(said) - {REST} - set(is_)
            assert not extra | missing, f"{where or 'the answer'}: without {missing}, not said {extra}, in {is_}"
            for name, value in said.items():
                if name != REST:
                    self._value(value, is_[name], f"{where}.{name}")
        elif isinstance(said, list):
            assert isinstance(is_, list), f"{where} is {is_!r}"
            assert is_ if said == [REST] else len(is_) == len(said), f"{where} has {len(is_)} elements"
            for number, value in enumerate(said):
                self._value(value, is_[number], f"{where}[{number}]")
        elif isinstance(said, str):
            self._text(said, is_, where)
        elif isinstance(said, float):
            assert is_ is None or isinstance(is_, float), f"{where} is {is_!r}"
        else:
            assert said == is_, f"{where} is {is_!r}, not {said!r}"

    def _text(self, said: str, is_: str, where: str) -> None:
        if {said, is_} <= IN_MOTION:
            return
        assert shape(said) == shape(is_), f"{where}: is\n{is_}\nnot\n{said}"
        self._learn(said, is_)

    def _learn(self, said: str, is_: str) -> None:
        self.ids.update(zip(ID.findall(said), ID.findall(is_), strict=False))

    def _head(self, said: list[str], printed: list[str]) -> None:
        """Headers, among others and in any case."""
        found = {shape(line).lower() for line in printed}
        assert {shape(line).lower() for line in said} <= found, printed

    def _events(self, said: str, printed: str) -> None:
        """Server-sent events: each like the one of its name; the last one is the one that ends the stream."""
        kinds, seen = dict(_events_of(said)), list(_events_of(printed))
        assert seen, printed
        assert seen[-1][0] == list(kinds)[-1]
        for name, data in seen:
            self.check(kinds[name], data)


def _events_of(stream: str) -> Iterator[tuple[str, str]]:
    for event in re.finditer(r"^event: (\w+)\nid: \d+\ndata: (.+)$", stream, re.MULTILINE):
        yield event[1], event[2]


def shape(text: str) -> str:
    """What stays the same of a text: without ids, figures, times, and the widths of columns."""
    text = re.sub(r"\d[\d,.]*", "0", ID.sub("ID", text))
    return re.sub(r"\s+", " ", re.sub(r"([━─-])\1+", r"\1", text)).strip()


class Shell:
    """A bash in which one command after the other is typed; variables stay."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self._typed, self._printed = folder.parent / "typed", folder.parent / "printed"
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            env=clean_environment() | dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def type(self, command: str) -> tuple[int, str]:
        """Run a command to its end; returns its exit code and all that it printed."""
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._typed.write_text(command + "\n", encoding="utf-8")
        self._bash.stdin.write(f'. {self._typed} > {self._printed} 2>&1 < /dev/null; echo "$?"\n')
        self._bash.stdin.flush()
        code = self._bash.stdout.readline()
        return int(code), self._printed.read_text(encoding="utf-8")

    def close(self) -> None:
        """End it."""
        self._bash.communicate(timeout=PATIENCE_S)
