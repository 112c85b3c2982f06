"""What happens around a model: start-up, checks of the configuration, hooks, exit codes.

The registered classes live in ``amp`` and ``hooks``; importing this package alone stays cheap.
"""
