"""Who may come in: writes, queries and streams over HTTP. Decides nothing: `commands` do."""
