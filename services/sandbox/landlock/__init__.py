"""The degraded tier: commands on the host's own root, fenced in by Landlock. Only by wish."""
