"""Digest fields as RFC 9530 and RFC 9651 write them, and the check of them."""

from __future__ import annotations

import base64
import hashlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.digests import Digest, Hashes, digests_from
from ingest.errors import RequestError

CONTENT = b'{"hello": "world"}'
SHA256 = base64.b64encode(hashlib.sha256(CONTENT).digest()).decode()
SHA512 = base64.b64encode(hashlib.sha512(CONTENT).digest()).decode()


def parsed(value: str) -> dict[str, bytes]:
    return {digest.algorithm: digest.value for digest in digests_from("Repr-Digest", value)}


def test_the_example_of_the_rfc() -> None:
    """RFC 9530, appendix B.1."""
    (digest,) = digests_from("Repr-Digest", "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:")
    hashes = Hashes([digest])
    hashes.update(b'{"hello": "world"}\n')
    hashes.check()


@pytest.mark.parametrize(
    ("value", "algorithms"),
    [
        (f"sha-256=:{SHA256}:", ["sha-256"]),
        (f"sha-256=:{SHA256}:,sha-512=:{SHA512}:", ["sha-256", "sha-512"]),
        (f"sha-512=:{SHA512}: \t,\t sha-256=:{SHA256}:", ["sha-512", "sha-256"]),
        (f"md5=:AAAA:, sha-256=:{SHA256}:", ["sha-256"]),
        ("md5=:AAAA:, unixsum=::", []),
        (f"sha-256=:AAAA:, sha-256=:{SHA256}:", ["sha-256"]),
        (f'sha-256=:{SHA256}:;a=1;b="x, y";c', ["sha-256"]),
        (f"sha-256=:{SHA256.rstrip('=')}:", ["sha-256"]),
        (f"  sha-256=:{SHA256}:  ", ["sha-256"]),
    ],
)
def test_what_is_understood(value: str, algorithms: list[str]) -> None:
    """Unknown algorithms are ignored; of a repeated one the last counts; parameters mean nothing."""
    expected = {"sha-256": hashlib.sha256(CONTENT).digest(), "sha-512": hashlib.sha512(CONTENT).digest()}
    assert parsed(value) == {name: expected[name] for name in algorithms}


@pytest.mark.parametrize(
    "value",
    [
        "",
        "x",
        "sha-256",
        f"sha-256={SHA256}",
        f'sha-256="{SHA256}"',
        f"sha-256=:{SHA256}",
        f"sha-256=:{SHA256}:,",
        f"sha-256=:{SHA256}: sha-512=:{SHA512}:",
        f"SHA-256=:{SHA256}:",
        "sha-256=:AAAA:",
        f"sha-512=:{SHA256}:",
        "sha-256=:A:",
        "sha-256=:-_-_:",
        f"sha-256 =:{SHA256}:",
        f"sha-256=:{SHA256}:;",
        "md5=:AAAA:, " * 1000,
    ],
)
def test_what_is_malformed(value: str) -> None:
    """A client that sends a digest wants a check: what cannot be read is refused."""
    with pytest.raises(RequestError) as refused:
        digests_from("Content-Digest", value)
    assert (refused.value.code, refused.value.facts["option"]) == ("E_OPTION", "Content-Digest")


@given(st.text(alphabet='sha-256=:AB/+;,"\\ \t1.?*x', max_size=60))
def test_no_text_breaks_the_parser(value: str) -> None:
    """It is understood or refused."""
    with suppress(RequestError):
        digests_from("Repr-Digest", value)


@given(st.lists(st.binary(max_size=50), max_size=5))
def test_a_digest_holds_for_the_same_bytes_only(pieces: list[bytes]) -> None:
    """Of both algorithms, however the bytes come."""
    content = b"".join(pieces)
    digests = [
        Digest("Repr-Digest", name, hashlib.new(name.replace("-", ""), content).digest())
        for name in ("sha-256", "sha-512")
    ]
    for digest in digests:
        hashes = Hashes([digest])
        for piece in pieces:
            hashes.update(piece)
        hashes.check()
        assert hashes.sha256 == hashlib.sha256(content).digest()
        hashes.update(b"x")
        with pytest.raises(RequestError, match=f"do not have the {digest.algorithm} that Repr-Digest says"):
            hashes.check()
