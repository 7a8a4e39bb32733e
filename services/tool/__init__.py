"""The tool service: skills of the embedding program today; MCP skills join here."""
