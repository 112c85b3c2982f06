"""Import hook that offers a stand-in for ``mmcv._ext``, mmcv's compiled operators.

A plain ``pip install`` of mmcv leaves the compiled module out, and then ``mmcv.ops`` and
``mmdet.models`` cannot be imported. The finder stands at the end of ``sys.meta_path``, so a real
compiled module is found first and wins; without one the stand-in is built from
``isda_suite.compat.mmcv_ext``. Nothing but the standard library is imported until then.
"""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from .late_import import repair_late_imports

EXTENSION_NAME = 'mmcv._ext'
"""The one module name the hook answers for."""

ORIGIN = 'stand-in of isda_suite'


class StandInLoader(Loader):
    """Fill the empty module with the operators of ``isda_suite.compat.mmcv_ext``."""

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Let Python make an ordinary module; it sets ``__spec__``, which mmengine asks for."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Put every operator into the module, and a helpful error behind every other name."""
        mmcv_ext = importlib.import_module('isda_suite.compat.mmcv_ext')
        module.__doc__ = mmcv_ext.__doc__
        vars(module).update(mmcv_ext.OPERATORS)
        # PEP 562: mmcv asks for about 110 names when it is imported; those without an
        # implementation may only fail when they are called.
        vars(module)['__getattr__'] = mmcv_ext.missing_operator


class StandInFinder(MetaPathFinder):
    """Find ``mmcv._ext`` when no finder before this one did."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Return the stand-in's specification for ``mmcv._ext`` and ``None`` for other names."""
        if fullname != EXTENSION_NAME:
            return None
        return ModuleSpec(fullname, StandInLoader(), origin=ORIGIN)


def install_import_hook() -> None:
    """Append the finder to ``sys.meta_path``; a second call changes nothing.

    Modules of mmdet and mmseg that were imported before, with fallbacks instead of operators, get
    the operators now.
    """
    if any(isinstance(finder, StandInFinder) for finder in sys.meta_path):
        return
    sys.meta_path.append(StandInFinder())
    repair_late_imports()


def stand_in_is_used() -> bool:
    """Say whether ``mmcv._ext`` is the stand-in: it is loaded, or would be on import.

    Importing mmcv's package (which needs torch) is part of the answer.

    Returns:
        ``False`` when a real compiled extension is used or mmcv is not installed.
    """
    try:
        spec = importlib.util.find_spec(EXTENSION_NAME)
    except ModuleNotFoundError:
        return False
    return spec is not None and spec.origin == ORIGIN
