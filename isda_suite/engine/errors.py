"""Errors of the engine that a user can cause or has to act on."""


class ConfigError(ValueError):
    """A configuration or command that cannot work: what, where, and what to write instead."""


class NonFiniteLossError(FloatingPointError):
    """A loss or a gradient became NaN or infinite; nothing was saved after it."""


class PreemptedError(RuntimeError):
    """A signal asked the run to stop; its state was saved and it can be started again."""
