"""The way out of a sandbox: a proxy in a process of its own, which alone holds secret values."""
