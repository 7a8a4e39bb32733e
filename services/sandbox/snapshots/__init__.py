"""Snapshots of workspaces: content-addressed, incremental, in packs. Not when one is taken."""
