"""Secrets in files that sops encrypted for age: read without its program, never written."""
