"""What happens: loop (prompt, providers), tool (skills) and sandbox (base skill) services."""
