"""Checks of the installed packages against one another, without importing any of them."""

import re
from importlib import metadata

# Both distributions of a line own the same folder; installing one over the other leaves a mixture.
_SAME_FOLDER = (
    ('mmcv', ('mmcv', 'mmcv-full', 'mmcv-lite', 'onedl-mmcv')),
    ('mmengine', ('mmengine', 'mmengine-lite', 'onedl-mmengine')),
    ('mmdet', ('mmdet', 'onedl-mmdetection')),
    ('mmseg', ('mmsegmentation', 'onedl-mmsegmentation')),
)

REAL_MMCV_COMMAND = (
    "pip install 'setuptools<82' wheel packaging ninja psutil && "
    'MAX_JOBS=2 pip install --no-build-isolation --no-cache-dir --force-reinstall --no-deps '
    'onedl-mmcv==2.3.6'
)
"""Compiles mmcv's own operators; with FORCE_CUDA=1 and nvcc also those for the GPU."""


def _version_of(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def torchvision_problem() -> str | None:
    """Say why the installed torch and torchvision do not fit, or ``None`` if they do.

    Each torchvision wheel names the one torch it was compiled for; with another torch its
    operators do not load.
    """
    torch, torchvision = _version_of('torch'), _version_of('torchvision')
    if torch is None or torchvision is None:
        missing = 'torch' if torch is None else 'torchvision'
        return f'{missing} is not installed: pip install torch torchvision'
    for requirement in metadata.requires('torchvision') or []:
        wanted = re.match(r'torch\s*\(?==\s*([\d.]+)', requirement)
        if wanted and not _same_release(torch, wanted.group(1)):
            return (
                f'torchvision {torchvision} was compiled for torch {wanted.group(1)}, but torch '
                f'{torch} is installed, so its operators do not load. Install a pair that fits: '
                f'pip install torch=={wanted.group(1)} torchvision=={torchvision.split("+")[0]}'
            )
    return None


def _same_release(version: str, wanted: str) -> bool:
    """Compare without the local part, ``2.11.0+cpu`` being a build of ``2.11.0``."""
    release = version.split('+')[0].split('.')
    return release[: len(wanted.split('.'))] == wanted.split('.')


def shared_folder_problems() -> list[str]:
    """Name the packages that are installed on top of each other."""
    problems = []
    for folder, distributions in _SAME_FOLDER:
        found = [name for name in distributions if _version_of(name) is not None]
        if len(found) > 1:
            problems.append(
                f'{" and ".join(found)} are both installed and own the same folder {folder}/, '
                f'which is now a mixture of the two. Keep one: pip uninstall -y {" ".join(found)}, '
                f'then install the one you want again'
            )
    return problems


def installation_problems() -> list[str]:
    """Collect one sentence for each thing that is wrong, with its remedy; empty if all is well."""
    pair = torchvision_problem()
    return ([pair] if pair else []) + shared_folder_problems()
