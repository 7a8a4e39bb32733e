"""Server-sent events: one upstream a process, any number of viewers. Not the log: `eventlog` is."""
