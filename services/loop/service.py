"""The loop service: takes commands, answers requests, makes generations, reconciles. Not tools."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from pydantic import ValidationError

from commands.desk import Desk
from commands.route import Answer, route
from domain.commands import COMMAND
from domain.errors import IntegrityViolated, Unavailable
from domain.ids import RunRef
from domain.rate import Quota, Quotas
from domain.record import canonical
from domain.work import SampleWork, Work
from eventlog.port import Delivery
from services.loop.generations import Generate, Generations
from services.loop.limiter import Limiter
from services.loop.reconciler import PASS_S, Reconciler
from services.loop.samplings import Samplings
from services.loop.watch import Watch
from services.worker.hands import Bench, Post, Stop
from services.worker.queue import consume, read_work
from services.worker.signs import Signs

logger = logging.getLogger(__name__)

DELIVERIES_MAX = 20
"""After so many deliveries a command that cannot be handled becomes a dead letter."""

AGAIN_S = 0.5

BROKEN_MAX = 3
"""How often a command that breaks its handler is tried: a fault may be one of a moment."""

BROKEN_AGAIN_S = 2.0


@dataclass(frozen=True, slots=True)
class LoopLimits:
    """How much one loop worker does at once, and all of them may ask of providers."""

    generations_max: int = 256
    commands_max: int = 256
    pass_s: float = PASS_S
    quotas: Quotas = field(default_factory=dict[str, Quota])  # of all workers together


class LoopService:
    """The only writer of runs."""

    def __init__(
        self,
        desk: Desk,
        bench: Bench,
        signs: Signs,
        generate: Generate,
        limits: LoopLimits | None = None,
    ) -> None:
        """Man the bench with generations; nothing runs before `run`."""
        self._desk = desk
        self._bench = bench
        self._limits = limits or LoopLimits()
        self._limiter = Limiter(
            desk.backbone.limits, desk.epoch, desk.runs.now_ms, desk.gone, self._limits.quotas
        )
        self._generations = Generations(desk, generate, bench, desk.epoch, self._limiter)
        self._watch = Watch(desk.backbone.log, bench)
        self._reconciler = Reconciler(
            desk, signs, desk.epoch, bench.at, self._watch, self._limits.pass_s
        )
        self._samplings = Samplings(desk, generate, bench, desk.epoch, self._limiter)
        post = Post(self._ask_model, self._limits.generations_max)
        bench.man(generation=post)

    async def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until cancelled; `ready` is called when requests are answered."""
        ports = self._desk.backbone
        async with ports.requests.serve(self.answer), asyncio.TaskGroup() as tasks:
            commands = ports.commands.consume(in_flight_max=self._limits.commands_max)
            steps = ports.work.consume("step", in_flight_max=self._limits.generations_max)
            tasks.create_task(consume(commands, self.deliver), name="commands")
            tasks.create_task(consume(steps, self._step), name="steps")
            tasks.create_task(self._watch.run(), name="watch")
            tasks.create_task(self._limiter.run(), name="limits")
            tasks.create_task(self._reconciler.run(), name="reconciler")
            ready()

    async def _step(self, delivery: Delivery) -> None:
        """Work for whoever asks models: for the run itself, or for one of its open calls."""
        work = read_work(delivery)
        if isinstance(work, SampleWork):
            await self._samplings.deliver(delivery, work)
        else:
            await self._generations.deliver(delivery)

    async def _ask_model(self, ref: RunRef, work: Work, stop: Stop) -> None:
        if isinstance(work, SampleWork):
            await self._samplings.execute(ref, work, stop)
        else:
            await self._generations.execute(ref, work, stop)

    async def answer(self, ref: RunRef, data: bytes) -> bytes:
        """One request: a command whose answer somebody waits for."""
        try:
            answer = await route(self._desk, ref, COMMAND.validate_json(data))
        except ValidationError as error:
            answer = Answer(status="rejected", code="malformed", detail=str(error))
        except IntegrityViolated as error:
            answer = Answer(status="rejected", code="integrity_violated", detail=str(error))
        except Exception as error:
            logger.exception("a command of run %s broke its handler", ref.run)
            answer = Answer(status="rejected", code="internal", detail=type(error).__name__)
        return canonical(answer)

    async def deliver(self, delivery: Delivery) -> None:
        """One stored command: acked when it is in the log, or kept as a dead letter."""
        try:
            command = COMMAND.validate_json(delivery.data)
            answer = await route(self._desk, delivery.ref, command)
        except ValidationError as error:
            await self._give_up(delivery, f"malformed: {error}")
            return
        except IntegrityViolated as error:
            logger.exception("RunIntegrityViolated: run %s", delivery.ref.run)
            await self._give_up(delivery, f"integrity_violated: {error}")
            return
        except Exception as error:
            logger.exception("a command of run %s broke its handler", delivery.ref.run)
            if delivery.attempt < BROKEN_MAX:
                await delivery.retry(BROKEN_AGAIN_S)
            else:
                await self._give_up(delivery, f"internal: {type(error).__name__}")
            return
        if answer.status == "accepted":
            await delivery.ack()
        elif answer.code == "gone":  # nothing of a deleted job is kept, nor what comes too late
            logger.info("a command of run %s is dropped: %s", delivery.ref.run, answer.detail)
            await delivery.ack()
        elif answer.status == "rejected":
            await self._give_up(delivery, f"{answer.code}: {answer.detail}")
        elif delivery.attempt >= DELIVERIES_MAX:
            await self._give_up(delivery, f"unavailable {delivery.attempt} times: {answer.detail}")
        else:
            await delivery.retry(AGAIN_S)

    async def _give_up(self, delivery: Delivery, reason: str) -> None:
        logger.error("a command of run %s became a dead letter: %s", delivery.ref.run, reason)
        try:
            await self._desk.backbone.dead.put(delivery.ref, delivery.data, reason)
        except Unavailable:
            await delivery.retry(AGAIN_S)
            return
        await delivery.ack()
