"""Speaks MCP with servers of skills, as a client. Not where their processes run."""
