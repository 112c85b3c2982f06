"""isda_suite: five segmentation methods on mmdet 3.x and mmseg 1.x."""

import importlib
from typing import TYPE_CHECKING, Any

from isda_suite.compat.import_hook import install_import_hook
from isda_suite.compat.warning_filters import quiet_imports

__version__ = '0.1.0'

# Public name -> where it lives: 'package.module' for a module, 'package.module:name' for what is
# in one. They are imported on first use, so that `import isda_suite` stays cheap.
_PUBLIC_NAMES = {
    'InstanceResult': 'isda_suite.apis.results:InstanceResult',
    'Result': 'isda_suite.apis.results:Result',
    'Segmenter': 'isda_suite.apis.segmenter:Segmenter',
    'SemanticResult': 'isda_suite.apis.results:SemanticResult',
    'VideoResult': 'isda_suite.apis.results:VideoResult',
    'ops': 'isda_suite.ops',
}
__all__ = [
    'InstanceResult',
    'Result',
    'Segmenter',
    'SemanticResult',
    'VideoResult',
    '__version__',
    'ops',
]

if TYPE_CHECKING:
    from isda_suite import ops
    from isda_suite.apis.results import InstanceResult, Result, SemanticResult, VideoResult
    from isda_suite.apis.segmenter import Segmenter

install_import_hook()


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC_NAMES:
        raise AttributeError(
            f'module {__name__!r} has no attribute {name!r}; public names: '
            f'{", ".join(sorted(_PUBLIC_NAMES))}'
        )
    module_name, _, attribute = _PUBLIC_NAMES[name].partition(':')
    with quiet_imports():
        found = importlib.import_module(module_name)
    if attribute:
        found = getattr(found, attribute)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC_NAMES})
