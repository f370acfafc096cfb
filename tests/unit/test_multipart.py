"""Forms come out of the parser the same however their bytes are cut."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.web.body import BodyError
from ingest.web.multipart import Event, MultipartReader, PartBegin, PartData, PartEnd

BOUNDARY = b"--x"
# Data that looks like what separates parts, in every part of a part.
NASTY = st.lists(
    st.sampled_from([b"\r", b"\n", b"-", b"\r\n", b"\r\n--", b"\r\n----", b"\r\n----y", b"----x", b"a,b", b"\x00\xff"]),
    max_size=20,
).map(b"".join)


def form(*parts: tuple[str, bytes]) -> bytes:
    """Return a form of files."""
    body = b""
    for name, data in parts:
        disposition = f'Content-Disposition: form-data; name="f"; filename="{name}"'.encode()
        body += b"--" + BOUNDARY + b"\r\n" + disposition + b"\r\nContent-Type: text/csv\r\n\r\n" + data + b"\r\n"
    return body + b"--" + BOUNDARY + b"--\r\n"


def read(data: bytes, cuts: list[int]) -> tuple[list[tuple[str | None, bytes]], bool]:
    """Feed a form in the given pieces; return its parts, and whether it ended."""
    reader = MultipartReader(BOUNDARY)
    events: list[Event] = []
    for start, end in pairwise([0, *sorted(cuts), len(data)]):
        events += reader.feed(data[start:end])
    parts: list[tuple[str | None, bytes]] = []
    for event in events:
        if isinstance(event, PartBegin):
            parts.append((event.filename, b""))
        elif isinstance(event, PartData):
            parts[-1] = (parts[-1][0], parts[-1][1] + event.data)
        else:
            assert isinstance(event, PartEnd)
    return parts, reader.ended


def test_cut_at_every_byte() -> None:
    """Byte by byte, and in two pieces at each place."""
    parts = [("a", b"a,b\r\n1,2\r\n"), ("b", b""), ("é", b"\r\n--\r\n----\r\n----y--\r\n\r"), ("c", b"\r\n")]
    data = form(*parts)
    assert read(data, list(range(1, len(data)))) == (parts, True)
    for cut in range(1, len(data)):
        assert read(data, [cut]) == (parts, True), cut


@given(st.data(), st.lists(NASTY, max_size=4))
def test_cut_anywhere(data: st.DataObject, contents: list[bytes]) -> None:
    """Whatever the files hold, short of the boundary itself."""
    parts = [(f"{n}.csv", content) for n, content in enumerate(contents) if b"\r\n----x" not in b"\r\n" + content]
    body = form(*parts)
    if not parts:
        body = b"--" + BOUNDARY + b"--\r\n"
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=10))
    if parts:
        assert read(body, cuts) == (parts, True)


@given(st.binary(max_size=500))
def test_noise_is_refused_or_unfinished(data: bytes) -> None:
    """No bytes make the parser raise anything else."""
    with suppress(BodyError):
        MultipartReader(BOUNDARY).feed(b"--" + BOUNDARY + b"\r\n" + data)


@pytest.mark.parametrize(
    "data",
    [
        b"a,b\r\n1,2\r\n",
        b"----x\r\nNo-Disposition: 1\r\n\r\nx",
        b"----x\r\nContent-Disposition: form-data\r\n\r\nx",
        b'----x\r\nContent-Disposition: attachment; name="f"\r\n\r\nx',
        b"----x\r\nBad Header\r\n\r\nx",
        b"----x\r\nX: " + b"a" * 100_000,
        b"----x\r\n" + b'Content-Disposition: form-data; name="f"\r\n\r\n\r\n----x\r\n' * 1001,
    ],
)
def test_a_malformed_form_is_refused(data: bytes) -> None:
    """As a fault of the body, which ends the request."""
    with pytest.raises(BodyError) as caught:
        MultipartReader(BOUNDARY).feed(data)
    assert caught.value.code == "E_MULTIPART"


def test_a_cut_form_has_not_ended() -> None:
    """So its last file is never taken for whole."""
    data = form(("a.csv", b"a,b\n"))
    for length in range(len(data) - 3):
        assert read(data[:length], [])[1] is False
