"""The contract of the library's recorders: its own test cases, over a real server."""
