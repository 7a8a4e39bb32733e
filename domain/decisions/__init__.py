"""What follows from a command in a state, one module for each part of a run's life. Pure."""
