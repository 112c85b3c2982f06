"""The error every fault of data raises."""


class DataError(ValueError):
    """Tell what is wrong with an annotation file or an image, where, and what to do about it.

    Command line tools end with exit code 3 when it reaches them.
    """
