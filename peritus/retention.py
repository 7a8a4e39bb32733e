"""Puts together what deletes jobs in this process. Not when, and not which."""

from commands.delete_job import Deleter
from commands.runs import RunStore
from commands.survey import Survey
from eventlog.port import Backbone
from peritus.ids import new_id, now_ms
from services.retention.service import RetentionService
from services.worker.epoch import this_epoch


def deleter(backbone: Backbone) -> Deleter:
    """Deletes jobs of this deployment in the name of this process."""
    runs = RunStore(backbone, epoch=str(this_epoch()), now_ms=now_ms, new_id=new_id)
    return Deleter(backbone, runs, Survey(backbone.log), new_id)


def retention(backbone: Backbone, days: float | None) -> RetentionService:
    """Looks after what is to be deleted; `days` None: only after what was begun."""
    return RetentionService(deleter(backbone), now_ms, days)
