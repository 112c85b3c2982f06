"""What can go wrong with a checkpoint, as errors a user can act on."""


class CheckpointError(ValueError):
    """A checkpoint is damaged, of another model, or in a form that is not known."""


class UnsafeCheckpointError(CheckpointError):
    """A checkpoint asks for Python objects that could run code while it is read."""


class CheckpointWriteError(OSError):
    """A checkpoint could not be written, for want of room on the disk."""
