"""The switch ``patch_mmcv`` of configurations: our operators in stock models."""

from typing import Any

_patch: Any = None  # isda_suite.ops.mmcv_patch.MmcvPatch, once a configuration asked for it


def switch_mmcv_patch(on: bool) -> None:
    """Put :func:`isda_suite.ops.patch_mmcv` in force for what is built from here on, or end it.

    Patches made by other means are not touched. Nothing is imported unless it is needed.

    Args:
        on: Whether stock models use our modules.

    Raises:
        ImportError: if ``mmcv.ops`` cannot be imported.
    """
    global _patch
    if on:
        from isda_suite.ops import patch_mmcv

        if _patch is None:
            _patch = patch_mmcv()
        _patch.apply()
    elif _patch is not None:
        _patch.restore()
