"""Counts runs and tokens in a SQLite file, with a projection of the eventsourcing library.

    python count.py counts.sqlite

It reads the runs of the project in the current folder, or of PERITUS_NATS_URL. The file holds the
counts and, in the same transaction, how far they go: started again, it goes on from there.
"""

import signal
import sys

from eventsourcing.persistence import Tracking
from eventsourcing.projection import Projection, ProjectionRunner
from eventsourcing.sqlite import SQLiteTrackingRecorder

from domain.events import GenerationCompleted, RunCompleted, RunStarted
from eventlog.library import RunEvent
from eventlog.recorders.runs import Runs


class Counts(SQLiteTrackingRecorder):
    """What was counted, in a table beside the library's own."""

    def construct_create_table_statements(self) -> list[str]:
        table = "CREATE TABLE IF NOT EXISTS counts (name TEXT PRIMARY KEY, value INTEGER NOT NULL)"
        return [*super().construct_create_table_statements(), table]

    def add(self, tracking: Tracking, **more: int) -> None:
        """Count, and note how far: both or neither."""
        with self.datastore.transaction(commit=True) as cursor:
            self._insert_tracking(cursor, tracking)
            for name, value in more.items():
                cursor.execute(
                    "INSERT INTO counts VALUES (?, ?) "
                    "ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
                    (name, value),
                )

    def counted(self, name: str) -> int:
        """A count."""
        with self.datastore.transaction(commit=False) as cursor:
            cursor.execute("SELECT value FROM counts WHERE name = ?", (name,))
            row = cursor.fetchone()
        return row["value"] if row else 0


class Counting(Projection[Counts]):
    """What is counted. Only these topics are handed over."""

    name = "counting"
    topics = ("run.started.v2", "run.completed.v2", "generation.completed.v2")

    def process_event(self, domain_event: RunEvent, tracking: Tracking) -> None:
        match domain_event.event:
            case RunStarted():
                self.view.add(tracking, started=1)
            case RunCompleted():
                self.view.add(tracking, completed=1)
            case GenerationCompleted(usage=usage):
                self.view.add(tracking, generations=1, tokens=usage.input + usage.output)
            case _:
                self.view.insert_tracking(tracking)
        print(tracking.notification_id, domain_event.event.type, flush=True)


def main(file: str) -> None:
    """Follow until Ctrl-C, then say what was counted."""
    env = {
        "COUNTING_PERSISTENCE_MODULE": "eventsourcing.sqlite",
        "COUNTING_SQLITE_DBNAME": file,
    }
    with ProjectionRunner(
        application_class=Runs, projection_class=Counting, view_class=Counts, env=env
    ) as runner:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: runner.stop())
        runner.run_forever()
        for name in ("started", "completed", "generations", "tokens"):
            print(f"{name}: {runner.view.counted(name)}")


if __name__ == "__main__":
    main(sys.argv[1])
