"""The encoding of a file, from its first bytes."""

from __future__ import annotations

import pytest

from ingest.detecting import detect_encoding

ASCII = "id,name\n1,Bob\n2,Ann\n"


@pytest.mark.parametrize(
    ("data", "name", "bom_bytes"),
    [
        (b"", "utf-8", 0),
        (ASCII.encode(), "utf-8", 0),
        ("id,name\n1,Zoë\n".encode(), "utf-8", 0),
        (b"\xef\xbb\xbf" + ASCII.encode(), "utf-8", 3),
        (b"\xff\xfe" + ASCII.encode("utf-16-le"), "utf-16-le", 2),
        (b"\xfe\xff" + ASCII.encode("utf-16-be"), "utf-16-be", 2),
        (ASCII.encode("utf-16-le"), "utf-16-le", 0),
        (ASCII.encode("utf-16-be"), "utf-16-be", 0),
        ("名前,値\n山田,1\n鈴木,2\n".encode("utf-16-be"), "utf-16-be", 0),
        (b"\xff\xfe\0\0" + ASCII.encode("utf-32-le"), "utf-32-le", 4),
        (ASCII.encode("utf-32-be"), "utf-32-be", 0),
        ("id,name\n1,Zoë\n2,Bob\n".encode("cp1252"), "cp1252", 0),
        (b"id,price\n1,10 \x80 \x96 12 \x80\n2,it\x92s \x93it\x94\n", "cp1252", 0),
    ],
)
def test_an_encoding_is_found(data: bytes, name: str, bom_bytes: int) -> None:
    """With the bytes of its mark."""
    assert detect_encoding(data, ended=True)[:2] == (name, bom_bytes)


@pytest.mark.parametrize(
    "data",
    [
        b"a,b\n1,\xff\n",
        b"a" * 20_000 + b"\xff",
        b"a,b\n1,\xed\xa0\x80\n",
        b"a,b\n1,\xc0\xaf\n",
        "a,b\n1,Zoë\n2,Jürgen\n3,".encode() + b"M\xfcller\n",
        b"a,b\n1,Zo" + b"\xc3",
        b"a,b\n1,\0\n",
        b"a,b\n1,x\0\n2,\0\0\n",
    ],
)
def test_damage_is_not_another_encoding(data: bytes) -> None:
    """The records that are damaged are to be rejected, not read as something else."""
    assert detect_encoding(data, ended=True).name == "utf-8"


def test_a_character_may_be_cut_where_the_sample_ends() -> None:
    """The rest of it follows."""
    found = detect_encoding("id,name\n1,Zoë".encode()[:-1], ended=False)
    assert found.name == "utf-8"
    assert "valid" in found.evidence


def test_what_is_given_wins() -> None:
    """And tells of which mark there may be."""
    assert detect_encoding(ASCII.encode(), ended=True, given={"encoding": "cp1251"})[:2] == ("cp1251", 0)
    assert detect_encoding(b"\xef\xbb\xbfa\n", ended=True, given={"encoding": "utf-8"})[:2] == ("utf-8", 3)
    assert detect_encoding(b"\xff\xfea\0", ended=True, given={"encoding": "utf-16"})[:2] == ("utf-16", 2)
    assert detect_encoding(ASCII.encode(), ended=True, given={"encoding": "auto"}).name == "utf-8"
