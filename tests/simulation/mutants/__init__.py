"""Planted bugs, as patches to the real code, and the hunt for them."""
