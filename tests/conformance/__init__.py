"""Suites of others that say what a protocol asks for, and how we fare in them. Not our tests."""
