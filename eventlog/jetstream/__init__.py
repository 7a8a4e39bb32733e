"""The JetStream form of every port in `eventlog.port`. Nothing else in Peritus imports `nats`."""
