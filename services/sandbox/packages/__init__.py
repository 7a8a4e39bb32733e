"""Packages of registries that skills run: fetched once, then mounted, never fetched while used."""
