"""Checkpoints: read safely, written whole, loaded with a report, renamed between styles."""
