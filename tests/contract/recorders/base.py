"""What the library's test cases get from us: recorders on a real server. Not the cases."""

from eventsourcing.utils import Environment

from eventlog.recorders.jetstream import JetStreamFactory


class OnJetStream:
    """Makes factories, and closes them when a test has ended."""

    def prepare(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self.factories: list[JetStreamFactory] = []

    def made(self) -> JetStreamFactory:
        factory = JetStreamFactory(Environment("TestCase", self.environment))
        self.factories.append(factory)
        return factory

    def finish(self) -> None:
        for factory in self.factories:
            factory.close()
