"""Sandboxes by bubblewrap, with or without root."""
