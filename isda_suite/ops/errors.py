"""What this package raises."""


class OpsLibraryError(ImportError):
    """The compiled library is required (``ISDA_REQUIRE_OPS=1``), but none fits."""
