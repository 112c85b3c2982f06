"""Import hook for the stand-in of ``mmcv._ext``."""


def install_import_hook() -> None:
    """Install the hook."""
