"""The end of a batch: its rejects, as far as the job may store them, and its line in the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ingest.batch import Batch, BatchResult
from ingest.database import Session, joined
from ingest.ledger import commit_batch, commit_batch_with_rejects, commit_only_batch, store_rejects
from ingest.reject import Reject


async def close_batch(session: Session, batch: Batch, result: BatchResult) -> BatchResult:
    """Write rejects, fence and ledger line in one trip, before COMMIT; returns the result with the rejects stored.

    A clean batch that is all of its chunk finishes it, and is committed by the same trip. Raises LeaseLost,
    AlreadyCommitted, AccountingError.
    """
    if batch.is_all and not result.rejected:
        await commit_only_batch(session, batch, result)
        return replace(result, finished=True)
    if not result.rejects:
        await commit_batch(session, batch, result)
        return result
    stored = await commit_batch_with_rejects(session, batch, result, _texts(result.rejects))
    return replace(result, rejects=result.rejects[:stored])


async def write_rejects(session: Session, batch: Batch, rejects: Sequence[Reject]) -> None:
    """Write rejects in the open transaction, as far as the job may store them; they are ordered by record."""
    if rejects:
        await store_rejects(session, batch, _texts(rejects))


def _texts(rejects: Sequence[Reject]) -> list[str]:
    """Return the columns of rejects for ingest.store_rejects."""
    raw = [_as_text(reject.raw) for reject in rejects]
    columns: list[list[str | None]] = [
        [*map(str, _record_numbers(rejects))],
        [str(reject.line) for reject in rejects],
        [str(reject.byte_offset) for reject in rejects],
        [reject.column for reject in rejects],
        [reject.value for reject in rejects],
        [reject.code for reject in rejects],
        [reject.sqlstate for reject in rejects],
        [reject.message for reject in rejects],
        raw,
        [reject.raw.hex() if text is None else None for reject, text in zip(rejects, raw, strict=True)],
        [str(reject.truncated) for reject in rejects],
    ]
    end, null, texts = joined(columns)
    return [end, null, *(text.replace("\x00", "\\x00") for text in texts)]


def _record_numbers(rejects: Sequence[Reject]) -> list[int]:
    """Return for each reject the number of its record among those of all, from 1."""
    numbers, last = [], None
    number = 0
    for reject in rejects:
        number += reject.byte_offset != last
        last = reject.byte_offset
        numbers.append(number)
    return numbers


def _as_text(raw: bytes) -> str | None:
    """Return the raw record as text that PostgreSQL can store, or None when only its bytes are true to it."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return None if "\x00" in text else text
