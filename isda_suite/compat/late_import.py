"""Repair of modules that were imported before the stand-in for ``mmcv._ext`` was there.

Many modules of mmdet and mmseg tolerate an mmcv without compiled operators: they define functions
that raise ("requires mmcv to be compiled with ops") or set the name to ``None``. A script, or a
stock tool, that imports them before isda_suite would keep these, although the operators are
available from then on.
"""

import importlib
import sys
from types import CodeType, ModuleType
from typing import Any

_FALLBACK_TEXT = 'requires mmcv to be compiled'


def repair_late_imports() -> list[str]:
    """Put mmcv's operators where loaded modules of mmdet and mmseg have fallbacks.

    mmcv.ops is imported only if there is something to repair, so this costs nothing when the
    libraries have not been imported yet.

    Returns:
        ``module.name`` of everything that was replaced.
    """
    fallbacks = []
    for module_name, module in list(sys.modules.items()):
        package = module_name.partition('.')[0]
        if package in ('mmdet', 'mmseg') and isinstance(module, ModuleType):
            fallbacks += _fallbacks_in(module, package)
    if not fallbacks:
        return []
    operators = importlib.import_module('mmcv.ops')
    replaced = []
    for module, name in fallbacks:
        operator = getattr(operators, name.lstrip('_'), None)
        if operator is not None:
            setattr(module, name, operator)
            replaced.append(f'{module.__name__}.{name}')
    return replaced


def _fallbacks_in(module: ModuleType, package: str) -> list[tuple[ModuleType, str]]:
    """Names that stand for a missing operator, wherever they were defined.

    mmseg marks them by ``None``. In mmdet a ``None`` can be something else, and its fallbacks
    are recognised by their text.
    """
    found = []
    for name, value in vars(module).items():
        missing = package == 'mmseg' and value is None and _is_operator_name(name)
        if missing or _FALLBACK_TEXT in _constants_of(value):
            found.append((module, name))
    return found


def _is_operator_name(name: str) -> bool:
    """The operators that mmseg imports."""
    return name.lstrip('_') in (
        'CrissCrossAttention',
        'PSAMask',
        'point_sample',
        'sigmoid_focal_loss',
    )


def _constants_of(value: Any) -> str:
    """The text inside a function, or inside the constructor of a class."""
    function = vars(value).get('__init__') if isinstance(value, type) else value
    code = getattr(function, '__code__', None)
    if not isinstance(code, CodeType):
        return ''
    return ' '.join(constant for constant in code.co_consts if isinstance(constant, str))
