"""Runs for the library's applications and projections: set `PERSISTENCE_MODULE` to this. Read-only.

`Runs` is an application that needs no more settings than Peritus itself has: follow it with a
`ProjectionRunner`, or fold one run of it. Nothing is written: only a decision appends to EVENTS.
"""

from functools import partial
from threading import Lock
from typing import Any, ClassVar, NoReturn

from eventsourcing.application import Application
from eventsourcing.persistence import (
    InfrastructureFactory,
    Mapper,
    ProgrammingError,
    TrackingRecorder,
    Transcoder,
)
from eventsourcing.utils import Environment, EnvType

from domain.ids import RunRef
from eventlog.library import JsonTranscoder, Run, RunMapper, originator_id, project_run
from eventlog.recorders.hosted import Hosted
from eventlog.recorders.run_recorder import RunRecorder
from eventlog.recorders.run_source import Source, opened
from eventlog.recorders.settings import RunSettings

ELSEWHERE = (
    "views of runs are kept elsewhere: set PERSISTENCE_MODULE for the projection's name, as in "
    "MYVIEW_PERSISTENCE_MODULE=eventsourcing.sqlite"
)


class RunFactory(InfrastructureFactory[TrackingRecorder]):
    """Makes recorders of runs over one connection; `close` ends it and its thread."""

    def __init__(self, env: Environment | EnvType | None) -> None:
        super().__init__(env)
        self._settings = RunSettings.of(self.env)
        self._hosted: Hosted[Source] | None = None
        self._lock = Lock()

    def application_recorder(self) -> RunRecorder:
        """A recorder of all runs of the tenant.

        Raises:
            OperationalError: the server is away.
        """
        with self._lock:
            if self._hosted is None:
                self._hosted = Hosted(partial(opened, self._settings), name="runs")
            return RunRecorder(self._hosted, self._settings.tenant)

    def aggregate_recorder(self, purpose: str = "events") -> RunRecorder:
        """The same; there is none for snapshots.

        Raises:
            ProgrammingError: it is asked for another purpose.
        """
        if purpose != "events":
            msg = f"runs have no recorder for {purpose!r}: leave IS_SNAPSHOTTING_ENABLED unset"
            raise ProgrammingError(msg)
        return self.application_recorder()

    def tracking_recorder(
        self, tracking_recorder_class: type[TrackingRecorder] | None = None
    ) -> NoReturn:
        """Refuse it.

        Raises:
            ProgrammingError: always.
        """
        del tracking_recorder_class
        raise ProgrammingError(ELSEWHERE)

    def process_recorder(self) -> NoReturn:
        """Refuse it.

        Raises:
            ProgrammingError: always.
        """
        raise ProgrammingError(ELSEWHERE)

    def transcoder(self) -> Transcoder:
        """Plain JSON."""
        return JsonTranscoder()

    def mapper(
        self,
        transcoder: Transcoder | None = None,
        mapper_class: type[Mapper[Any]] | None = None,
    ) -> Mapper[Any]:
        """The mapper of runs, whatever the environment says of other applications."""
        del transcoder, mapper_class
        return RunMapper()

    def close(self) -> None:
        """End the connection; its recorders can no longer be used."""
        with self._lock:
            if self._hosted is not None:
                self._hosted.close()
        super().close()


class Runs(Application[str]):
    """The runs of a deployment as an application of the library that only reads."""

    name = "runs"
    env: ClassVar[dict[str, str]] = {"RUNS_PERSISTENCE_MODULE": "eventlog.recorders.runs"}

    def run(self, tenant: str, job: str, run: str, *, version: int | None = None) -> Run:
        """A run as it is now, or was at a version.

        Raises:
            AggregateNotFoundError: there is no such run.
        """
        name = originator_id(RunRef(tenant, job, run))
        return self.repository.get(name, version=version, projector_func=project_run)
