"""The error of models and layers that a configuration can cause."""


class ModelConfigError(ValueError):
    """An option of a model is wrong, or what the configuration feeds a model does not fit it.

    Command line tools end with exit code 2 when it reaches them.
    """
