"""Runners of golden parts: name of the part to function(golden, case, tmp_path) -> results by name."""

RUNNERS = {}
