"""Pages of EVENTS where the log has copies: the leader says where it ends. Not what is in them."""

import pytest
from nats.aio.msg import Msg

from domain.errors import Unavailable
from domain.ids import RunRef
from eventlog.jetstream import log as log_module
from eventlog.jetstream.connection import Link, open_link
from eventlog.jetstream.log import JetStreamEventLog
from eventlog.jetstream.reader import BATCH_MESSAGES, Reader
from eventlog.jetstream.streams import Streams
from eventlog.jetstream.subjects import Names
from tests.integration.deployment import TOKEN, JetStreamDeployment

pytestmark = [pytest.mark.anyio, pytest.mark.broker]

RUN = RunRef("acme", "job", "run")


class LateReplica(Reader):
    """Answers a few times as a copy does that has not heard of the newest message yet."""

    late = 0
    asked = 0

    async def messages(
        self, stream: str, subject: str, *, after_seq: int, count: int = BATCH_MESSAGES
    ) -> tuple[list[Msg], bool]:
        self.asked += 1
        found, more = await super().messages(stream, subject, after_seq=after_seq, count=count)
        if self.late and not more:
            self.late -= 1
            return found[:-1], False
        return found, more


async def copied_log(link: Link) -> tuple[JetStreamEventLog, LateReplica]:
    """Three envelopes, in the log of a deployment with copies, over a stream with one."""
    streams = Streams(link, Names("peritus"), 1, "process")
    await streams.ensure("EVENTS")
    streams.replicas = 3
    replica = LateReplica(link)
    await replica.start()
    log, seq = JetStreamEventLog(streams, replica, "now"), 0
    for data in (b"1", b"2", b"3"):
        seq = await log.append(RUN, data, expected_seq=seq)
    return log, replica


@pytest.mark.parametrize(("late", "asked"), [(0, 1), (3, 4)])
async def test_a_page_of_a_copy_that_is_behind_is_asked_for_again(
    deployment: JetStreamDeployment, late: int, asked: int
) -> None:
    async with open_link(
        deployment.server.url, token=TOKEN, name="test", timeout_s=2.0, connect_s=5.0
    ) as link:
        log, replica = await copied_log(link)
        replica.late = late
        replica.asked = 0
        page = await log.read(after_seq=0, tenant="acme", job="job")
        assert [stored.data for stored in page.envelopes] == [b"1", b"2", b"3"]
        assert (page.more, replica.asked) == (False, asked)
        part = await log.read(after_seq=0, tenant="acme", limit=2)
        assert ([stored.data for stored in part.envelopes], part.more) == ([b"1", b"2"], True)
        assert await log.read(after_seq=0, tenant="nobody") == ([], False)


async def test_a_copy_that_stays_behind_is_no_end_of_the_log(
    deployment: JetStreamDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "BEHIND_ATTEMPTS_MAX", 3)
    async with open_link(
        deployment.server.url, token=TOKEN, name="test", timeout_s=2.0, connect_s=5.0
    ) as link:
        log, replica = await copied_log(link)
        replica.late = 99
        with pytest.raises(Unavailable):
            await log.read(after_seq=0, tenant="acme")
