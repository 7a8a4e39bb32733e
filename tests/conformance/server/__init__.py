"""The official MCP conformance suite against `peritus mcp --http`. Not run by pytest."""
