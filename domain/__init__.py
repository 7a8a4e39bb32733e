"""What is true: events, run state, decide, evolve, effects. Pure: no I/O, no clock, no await."""
