"""What may be asked: one file a use case, each load, decide, append, dispatch."""
