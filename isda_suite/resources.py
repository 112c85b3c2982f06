"""Where the files beside the package lie: configs, csrc, tools, demo.

In a checkout (and an editable install) they are the folders of the repository; a wheel carries
copies of them in ``isda_suite/_resources``.
"""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def resource_root() -> Path:
    """Return the folder that holds ``configs/``, ``csrc/``, ``tools/`` and ``demo/``.

    Raises:
        FileNotFoundError: if neither a checkout nor the wheel's copies are there.
    """
    for root in (_PACKAGE.parent, _PACKAGE / '_resources'):
        if (root / 'csrc').is_dir() and (root / 'configs').is_dir():
            return root
    raise FileNotFoundError(
        f'configs/ and csrc/ are neither beside nor inside {_PACKAGE}: the installation is '
        'incomplete, install isda_suite again'
    )
