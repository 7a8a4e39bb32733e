"""Sandboxes as containers of a Docker Engine: the only place that speaks to one."""
