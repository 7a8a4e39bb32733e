"""Answers the question what a skill's MCP server offers. Not how that is found out."""

import logging
from collections.abc import Awaitable, Callable

from pydantic import ValidationError

from commands.discovery import Discovered, DiscoverSkill
from domain.definition import Definition, Skill
from domain.errors import IntegrityViolated, PeritusError, Unavailable
from domain.ids import RunRef
from domain.mcp import Catalogue
from domain.record import canonical
from eventlog.port import Answer, Blobs

logger = logging.getLogger(__name__)

Find = Callable[[RunRef, Definition, DiscoverSkill, Skill], Awaitable[Catalogue]]
"""Finds out what a skill offers, for the job of a run if there is one already."""


def discovery_answer(blobs: Blobs, find: Find) -> Answer:
    """What a worker does with such a question: every failure is an answer, too."""

    async def answer(ref: RunRef, data: bytes) -> bytes:
        try:
            question = DiscoverSkill.model_validate_json(data)
            stored = await blobs.get(ref.tenant, question.definition)
            definition = Definition.model_validate_json(stored)
        except (ValidationError, IntegrityViolated) as error:
            return canonical(Discovered(problem=f"the question cannot be read: {error}"))
        try:
            skill = definition.expert(question.expert).skills.get(question.skill)
            if skill is None:
                return canonical(Discovered(problem="there is no such skill"))
            catalogue = await find(ref, definition, question, skill)
        except Unavailable as error:
            return canonical(Discovered(problem=f"it could not be started: {error}"))
        except PeritusError as error:
            return canonical(Discovered(problem=str(error)))
        except Exception as error:
            logger.exception("the search for the tools of a skill broke")
            return canonical(Discovered(problem=f"the search broke: {type(error).__name__}"))
        digest = await blobs.put(ref.tenant, canonical(catalogue))
        return canonical(Discovered(catalogue=digest))

    return answer
