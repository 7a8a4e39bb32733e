"""The loop service: the only writer of runs."""
