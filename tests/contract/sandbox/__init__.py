"""The contract of sandboxes: one suite for every backend in `sandbox_backends.py`."""
