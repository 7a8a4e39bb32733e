"""Limits that a helper process puts on itself before it touches anything hostile. Not a sandbox."""

import resource
import signal

MEMORY_BYTES_MAX = 1024 * 1024 * 1024


def limit_self(seconds: int) -> None:
    """From here on: so much time, by the clock and of a processor, bounded memory, no files grown.

    The kernel ends the process, whatever it is busy with, also when nobody waits for it any more.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)
    for limit, value in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, MEMORY_BYTES_MAX),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        resource.setrlimit(limit, (value, value))
