"""Names of hosts as rows of the log show them, without values of secrets. Not the counting.

A row's name was cleaned and cut by the proxy, which does not know every secret: a value that was
put into a name may be there in another spelling, or with its end missing.
"""

from functools import lru_cache

from domain.needles import Needle, Needles
from domain.redaction import Redactor
from domain.sandbox import EgressRow
from services.sandbox.egress.names import shown
from services.secrets.cuts import piece


def clean_row(redactor: Redactor, row: EgressRow) -> EgressRow:
    """The row with a name that may be told."""
    host = redactor.text(piece(_as_names(redactor), row.host))
    return row if host == row.host else row.model_copy(update={"host": host})


@lru_cache(maxsize=1)
def _as_names(redactor: Redactor) -> Needles:
    """The forms of all values as a name in a row would have them."""
    found = {shown(one.text): one.name for one in redactor.in_text.needles}
    return Needles(Needle(text, name, ()) for text, name in found.items())
