"""Bytes to pixels by one rule, whatever the format; docs/data.md has the rule in words."""
