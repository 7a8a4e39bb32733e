"""Where it is kept: the log port, its JetStream form, its in-memory form, blobs, work, leases."""
