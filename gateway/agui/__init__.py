"""The Agent-User Interaction protocol: a thread is a job, a run of it is one turn."""
