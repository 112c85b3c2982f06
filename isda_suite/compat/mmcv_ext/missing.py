"""The answer for operators that the stand-in does not have."""

from collections.abc import Callable
from typing import NoReturn

from isda_suite.compat.versions import REAL_MMCV_COMMAND


def missing_operator(name: str) -> Callable[..., NoReturn]:
    """Return a function for ``mmcv._ext.<name>`` that raises a helpful error when called.

    Args:
        name: Name asked of the module.

    Raises:
        AttributeError: for names with a leading underscore, which are questions of Python's own
            machinery and not operators.
    """
    if name.startswith('_'):
        raise AttributeError(f"module 'mmcv._ext' has no attribute {name!r}")

    def operator(*_: object, **__: object) -> NoReturn:
        raise NotImplementedError(
            f'The operator {name!r} of mmcv is needed here, but mmcv is installed without its '
            f'compiled operators, and the stand-in of isda_suite (mmcv._ext) does not cover this '
            f'one: it has what the common models of mmdet and mmseg call. Compile mmcv itself '
            f'(6 to 15 minutes, needs a C++ compiler; for a GPU also set FORCE_CUDA=1): '
            f'{REAL_MMCV_COMMAND}'
        )

    operator.__name__ = operator.__qualname__ = name
    return operator
