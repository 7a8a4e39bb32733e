"""What went through the proxy during a call, as its result says it. Not the counting."""

import logging
from dataclasses import replace

from domain.errors import Unavailable
from domain.ids import RunRef
from domain.record import canonical
from domain.redaction import Redactor
from domain.sandbox import EGRESS_ROWS_MAX, EgressRow
from services.sandbox.box import Box
from services.sandbox.egress.tally import Tally
from services.sandbox.hosts import clean_row
from services.worker.toolbox import ToolResult

logger = logging.getLogger(__name__)

LOST = EgressRow(host="", port=0, verdict="failed", reason="counts_lost", connections=0)
"""The proxy died: what it had counted since the last outcome is not known."""


async def counted(box: Box, result: ToolResult, ref: RunRef, redactor: Redactor) -> ToolResult:
    """The result with the connections since the last one; all of them, where they are many."""
    try:
        tally = await box.take()
    except Unavailable:  # the call has run, whatever became of the proxy
        tally = Tally(lost=True)
    for use in tally.uses:
        logger.info(
            "secret %s was put into %d requests (%s, %d) to %s by run %s",
            *(use.secret, use.times, use.method, use.status, use.host, ref.run),
        )
    rows = tuple(clean_row(redactor, row) for row in tally.rows)
    rows = (*rows, LOST) if tally.lost else rows
    if not rows:
        return result
    full = canonical(rows) if len(rows) > EGRESS_ROWS_MAX else None
    return replace(result, egress=rows[:EGRESS_ROWS_MAX], full_egress=full)
