"""Which calls may run, which need a person, which never run: rules as data. Not who is asked.

Rules come in layers: the operator's, the definition's, the expert's, and what people said in the
run. In one layer the first rule that matches counts; of all layers the strictest verdict does. Only
a person's own word turns `ask` into `allow`, and nothing turns a `deny` of another layer into
anything else. A call that no rule matches is allowed: the sandbox is what bounds it.
"""

from typing import Literal

from pydantic import Field

from domain.record import Record

Verdict = Literal["allow", "ask", "deny"]

ANY = "*"


class PolicyRule(Record):
    """One rule. Every pattern is a glob (`*`, `?`, `[...]`) over the whole of what it looks at.

    `arguments` are patterns by path (`command`, `args.0`, `env.HOME`): all have to match, each on
    the text of that argument, or on its JSON where it is no text. An argument that is not there
    matches nothing.
    """

    verdict: Verdict
    expert: str = ANY
    skill: str = ANY
    tool: str = ANY
    arguments: dict[str, str] = Field(default_factory=dict[str, str])
    reason: str = ""  # told to the model when it is refused, and to the person who is asked
