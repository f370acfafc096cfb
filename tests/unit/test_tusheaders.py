"""The headers of the tus protocol, as bytes that clients send."""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha1, sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import RequestError
from ingest.web import tusheaders


def code_of(error: pytest.ExceptionInfo[RequestError]) -> str:
    return error.value.code


@pytest.mark.parametrize("version", [None, b"", b"0.2.2", b"1.0.0, 1.0.1", b"1"])
def test_only_our_version_is_spoken(version: bytes | None) -> None:
    fields = {} if version is None else {b"tus-resumable": version}
    with pytest.raises(RequestError) as refused:
        tusheaders.check_version(fields)
    assert code_of(refused) == "E_TUS_VERSION"
    tusheaders.check_version({b"tus-resumable": b"1.0.0"})


@pytest.mark.parametrize(
    "text", [b"", b"-1", b"+1", b"1.0", b"0x1", b" 1", b"1,1", b"1_0", "\u0663".encode(), b"9" * 19, b"1e3"]
)
def test_an_offset_is_a_whole_number(text: bytes) -> None:
    with pytest.raises(RequestError) as refused:
        tusheaders.offset({b"upload-offset": text})
    assert code_of(refused) == "E_TUS_HEADER"


def test_an_offset_must_be_given() -> None:
    assert tusheaders.offset({b"upload-offset": b"0"}) == 0
    assert tusheaders.offset({b"upload-offset": b"999999999999999999"}) == 10**18 - 1
    with pytest.raises(RequestError, match="missing"):
        tusheaders.offset({})


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {b"upload-length": b"5", b"upload-defer-length": b"1"},
        {b"upload-defer-length": b"0"},
        {b"upload-defer-length": b"yes"},
        {b"upload-length": b"x"},
    ],
)
def test_a_length_is_given_or_deferred(fields: dict[bytes, bytes]) -> None:
    with pytest.raises(RequestError) as refused:
        tusheaders.new_length(fields)
    assert code_of(refused) == "E_TUS_HEADER"
    assert tusheaders.new_length({b"upload-length": b"0"}) == 0
    assert tusheaders.new_length({b"upload-defer-length": b"1"}) is None


@given(st.dictionaries(st.from_regex(r"[A-Za-z_]{1,20}", fullmatch=True), st.text(max_size=50), max_size=8))
def test_metadata_comes_back_as_it_was_sent(values: dict[str, str]) -> None:
    header = ",".join(f"{key} {b64encode(value.encode()).decode()}" for key, value in values.items())
    assert tusheaders.metadata({b"upload-metadata": header.encode()}) == values


def test_a_key_without_value_is_empty() -> None:
    fields = {b"upload-metadata": b"filename YS5jc3Y=, is_confidential,load "}
    assert tusheaders.metadata(fields) == {"filename": "a.csv", "is_confidential": "", "load": ""}
    assert tusheaders.metadata({}) == {}


@pytest.mark.parametrize(
    "header",
    [
        b"a YQ==,a YQ==",  # twice
        b"a YQ==,,b YQ==",
        b"a YQ",  # padding
        b"a Y Q==",
        b"a !!!!",
        b"a /w==",  # not UTF-8
        b" ,",
        "\u00e9 YQ==".encode("latin-1"),
    ],
)
def test_malformed_metadata_is_refused(header: bytes) -> None:
    with pytest.raises(RequestError) as refused:
        tusheaders.metadata({b"upload-metadata": header})
    assert code_of(refused) == "E_TUS_HEADER"


def test_what_browsers_say_about_the_file_is_no_option() -> None:
    said = {"name": "a.csv", "type": "text/csv", "filetype": "text/csv", "relativePath": "null"}
    assert tusheaders.split_metadata(said | {"dataset": "d"}) == ("a.csv", {"dataset": "d"})
    assert tusheaders.split_metadata(said | {"filename": "b.csv"})[0] == "b.csv"


@pytest.mark.parametrize(("name", "make"), [("sha1", sha1), ("sha256", sha256)])
def test_a_checksum_holds_for_all_bytes(name: str, make: type) -> None:
    value = b64encode(make(b"abc").digest())
    right, wrong = (tusheaders.checksum({b"upload-checksum": name.encode() + b" " + value}) for _ in range(2))
    assert right is not None
    assert wrong is not None
    right.update(b"a")
    right.update(b"bc")
    right.verify()
    wrong.update(b"abd")
    with pytest.raises(RequestError) as refused:
        wrong.verify()
    assert code_of(refused) == "E_CHECKSUM"


@pytest.mark.parametrize("text", [b"", b"md5 " + b64encode(bytes(16)), b"sha1", b"sha1 ==", b"sha1 YQ==", b"SHA1 YQ=="])
def test_a_checksum_of_another_kind_is_refused(text: bytes) -> None:
    with pytest.raises(RequestError) as refused:
        tusheaders.checksum({b"upload-checksum": text})
    assert code_of(refused) == "E_TUS_HEADER"
    assert tusheaders.checksum({}) is None


def test_times_are_written_as_http_does() -> None:
    moment = datetime(2026, 11, 22, 1, 2, 3, 400, timezone(timedelta(hours=2)))
    assert tusheaders.http_date(moment) == "Sat, 21 Nov 2026 23:02:03 GMT"
    assert tusheaders.http_date(moment.astimezone(UTC)) == "Sat, 21 Nov 2026 23:02:03 GMT"
