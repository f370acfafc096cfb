"""What kind of file the first bytes are of: everything that is not CSV in UTF-8 is refused by its name. Pure."""

from __future__ import annotations

from ingest.errors import FileError

# Damaged text has a NUL here and there, which costs its record only. Even random bytes have twice as many as this among
# the first SNIFF_BYTES.
MOST_NULS = 8

OTHER_BOMS = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
EXPORT = "export the sheet as CSV"
UNPACK = "unpack it and send the CSV inside"
OTHER_KINDS = (
    (b"PK\x03\x04", "an Excel workbook or a ZIP archive", f"{EXPORT}, or {UNPACK}"),
    (b"PK\x05\x06", "an empty ZIP archive", UNPACK),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook", EXPORT),
    (b"\x1f\x8b", "gzip", UNPACK),
    (b"\x28\xb5\x2f\xfd", "zstd", UNPACK),
    (b"\xfd7zXZ\x00", "xz", UNPACK),
    (b"%PDF-", "a PDF document", "send the table as CSV"),
    (b"\x7fELF", "a program (ELF)", "send a CSV file"),
    (b"\x89PNG", "a PNG image", "send a CSV file"),
)


def refuse_other_kinds(start: bytes) -> None:
    """Raise FileError (E_NOT_CSV) when the first bytes of a file are those of something else than a text."""
    for magic, kind, advice in OTHER_KINDS:
        if start.startswith(magic):
            raise FileError(f"this looks like {kind}, not like CSV: {advice}", code="E_NOT_CSV", looks_like=kind)


def refuse_other_encodings(start: bytes) -> None:
    """Raise FileError when the first bytes of a file that should be in UTF-8 are in another encoding, or no text."""
    for bom, encoding in OTHER_BOMS:
        if start.startswith(bom):
            text = f"the file is in {encoding}: save it as UTF-8, or say so with the option encoding"
            raise FileError(text, code="E_ENCODING", looks_like=encoding)
    refuse_nuls(start)


def refuse_nuls(start: bytes) -> None:
    """Raise FileError when the first bytes of a text hold more NULs than damage explains."""
    if b"\0" not in start:
        return
    # Text in UTF-16 without a byte order mark has a NUL beside every Latin letter: always before it, or always after.
    first, second = start[0::2].count(0), start[1::2].count(0)
    if 0 in (first, second) and first + second > len(start) // 4:
        text = "the file seems to be in UTF-16 without a byte order mark: save it as UTF-8"
        raise FileError(text, code="E_ENCODING_SUSPECT", looks_like="UTF-16")
    if first + second > MOST_NULS or b"\0" in start.split(b"\n", 1)[0]:
        raise FileError("the file holds NUL bytes: this is not CSV", code="E_NOT_CSV", looks_like="binary data")
