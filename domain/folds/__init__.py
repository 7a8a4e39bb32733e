"""How each kind of event changes the state of a run; `domain.evolve` is the way in."""
