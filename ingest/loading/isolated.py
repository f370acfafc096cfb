"""isolated: a batch that could not be loaded whole. Its good records go in, each bad one stands alone as a reject.

The ways, from the cheapest to the one that always ends: sifted where keys are taken, strained where lines are
malformed, raw, screened and halved.
"""

from __future__ import annotations

from functools import partial

from ingest.batch import Batch, BatchResult
from ingest.database import Session
from ingest.errors import RowError
from ingest.loading.reasons import MANY_BAD, REPEATED_KEY, TAKEN_KEY
from ingest.loading.screening import may_stage
from ingest.loading.sifted import copy_sifted
from ingest.loading.staged import copy_raw, copy_screened
from ingest.loading.staging import room_for_rejects
from ingest.loading.strained import copy_strained


async def isolate(session: Session, batch: Batch, opening: str, *, after: str | None = None) -> BatchResult:
    """Load the good records of a batch, by its plan or as they are, and return all others as rejects.

    `after`: the SQLSTATE that kept it from being loaded whole, or one that the batch before lets expect. Rejects beyond
    what the job may still store are counted only.
    """
    await session.execute(opening)
    room = await room_for_rejects(session, batch)
    if after == TAKEN_KEY and batch.chunk.spec.plan is None:
        sifted = await session.attempt(partial(copy_sifted, batch=batch, room=room))
        if not isinstance(sifted, RowError):
            return sifted
    if after != MANY_BAD and batch.chunk.spec.plan is None:
        strained = await session.attempt(partial(copy_strained, batch=batch, room=room))
        if not isinstance(strained, RowError):
            return strained
    if may_stage(batch):
        # The savepoint keeps a failure from ending the transaction.
        raw = partial(copy_raw, batch=batch, room=room, expecting=after == MANY_BAD, thorough=after != REPEATED_KEY)
        result = await session.attempt(raw)
        if not isinstance(result, RowError):
            return result
    return await copy_screened(session, batch, room)
