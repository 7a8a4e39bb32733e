"""The golden log of a job that was deleted, before and after all else of it was removed."""

from commands.delete_job import Deleter
from commands.survey import JobName, Survey
from domain.events import Principal
from domain.ids import RunRef
from tests.support.office import office
from tests.support.runs import call, replies, result

ROOT = RunRef("acme", "old", "old")


async def deleted() -> dict[str, list[bytes]]:
    """A job at rest, and its tombstone."""
    desk = office()
    await desk.start(ROOT)
    await desk.tell(ROOT, replies(call("look")), result("c1-0", "seen"), replies("done"))
    before = desk.lines(ROOT)
    other = office("retention", desk)
    deleter = Deleter(other.backbone, other.runs, Survey(other.backbone.log), other.desk.new_id)
    await deleter.delete(JobName(ROOT.tenant, ROOT.job), Principal(name="ada", via="cli"))
    left = [one.data for one in await desk.backbone.log.load(ROOT)]
    return {"deleted": [*before, *left], "deleted-alone": left}
