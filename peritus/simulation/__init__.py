"""The whole system in one process under a seeded clock, order and network. Not for production."""
