"""Peritus: a durable agent harness. Programs use `peritus.api`; importing this alone is cheap."""
