"""The base skill from inside: files of a workspace, commands in bubblewrap. Not the queue."""
