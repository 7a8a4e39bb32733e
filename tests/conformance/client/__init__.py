"""The client of MCP servers in the official conformance suite: how it is run, and its results."""
