"""Experts as tools and runs as resources, for any MCP client. Not a client of MCP servers."""
