"""Recorders of the `eventsourcing` library over JetStream: a bridge, synchronous as it is."""
