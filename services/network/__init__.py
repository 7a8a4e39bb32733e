"""What every service that reaches out knows of this machine's network. Not whom it may reach."""
