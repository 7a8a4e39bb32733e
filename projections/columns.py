"""Columns that views are made of, alike in every database. Not the tables."""

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Text, false


def key(name: str) -> Column[Any]:
    """A text of the primary key."""
    return Column(name, Text, primary_key=True)


def key_number(name: str) -> Column[Any]:
    """A whole number of the primary key."""
    return Column(name, BigInteger, primary_key=True, autoincrement=False)


def text(name: str) -> Column[Any]:
    """A text; empty where nothing was put."""
    return Column(name, Text, nullable=False, server_default="")


def maybe_text(name: str) -> Column[Any]:
    """A text, or nothing."""
    return Column(name, Text)


def number(name: str) -> Column[Any]:
    """A whole number of 64 bits; 0 where nothing was put."""
    return Column(name, BigInteger, nullable=False, server_default="0")


def maybe_number(name: str) -> Column[Any]:
    """A whole number of 64 bits, or nothing."""
    return Column(name, BigInteger)


def flag(name: str) -> Column[Any]:
    """Yes or no; no where nothing was put."""
    return Column(name, Boolean, nullable=False, server_default=false())
