"""What is installed, and what is wrong with it. Every part works where the parts below it do not.

Nothing heavy is imported before the check that asks for it: an installation without torch has to be
described too.
"""

import importlib
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

DISTRIBUTION = 'isda_suite'
_PYTHON = ((3, 10), (3, 12))
# Import name of every library that a model needs, in the order in which they build on each other.
LIBRARIES = ('numpy', 'cv2', 'torch', 'torchvision', 'mmengine', 'mmcv', 'mmdet', 'mmseg')
# Below this a few data loading processes fill it: a batch of theirs is passed on through it.
_SHARED_MEMORY = Path('/dev/shm')
_MIN_SHARED = 256 << 20


@dataclass(frozen=True)
class Problem:
    """Something wrong.

    Args:
        what: What was found.
        remedy: What to do.
        fatal: Whether something does not work at all; otherwise it is slower or smaller.
    """

    what: str
    remedy: str
    fatal: bool = True


@dataclass(frozen=True)
class Wanted:
    """A distribution that the package asks for.

    Args:
        name: Its name in the package index.
        specifier: Versions that fit, empty for any.
        extra: The optional extra it belongs to, empty for what is always needed.
        found: Version that is installed, None if there is none.
        fits: Whether that version fits.
    """

    name: str
    specifier: str
    extra: str
    found: str | None
    fits: bool

    def __str__(self) -> str:
        """Write it as pip takes it."""
        return f'{self.name}{self.specifier}'


def wanted_distributions() -> list[Wanted]:
    """Return what the package asks for, with what is installed of it."""
    found = {}
    for line in _requirements():
        match = re.match(r'([\w.-]+)(?:\[[\w,-]+\])?\s*\(?([^;)]*)\)?\s*(?:;(.*))?$', line)
        if match is None:
            continue
        name, specifier, marker = match[1], match[2].strip(), match[3] or ''
        extra = re.search(r'extra\s*==\s*[\'"]([\w-]+)[\'"]', marker)
        version = _version_of(name)
        fits = version is not None and _fits(version, specifier)
        one = Wanted(name, specifier, extra[1] if extra else '', version, fits)
        found[one.extra, one.name] = one
    return list(found.values())


def _requirements() -> list[str]:
    """Return requirements as the metadata of a distribution writes them.

    A checkout on the path, which was never installed, has them in files.
    """
    try:
        return list(metadata.requires(DISTRIBUTION) or [])
    except metadata.PackageNotFoundError:
        pass
    from isda_suite.resources import resource_root

    file = resource_root() / 'requirements' / 'runtime.txt'
    lines = file.read_text(encoding='utf-8').splitlines() if file.is_file() else []
    return [line for line in lines if line and not line.startswith('#')]


def _version_of(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _fits(version: str, specifier: str) -> bool:
    try:
        from packaging.specifiers import SpecifierSet
    except ImportError:  # comes with mmengine's other requirements; without it, presence counts
        return True
    return SpecifierSet(specifier).contains(version.split('+')[0], prereleases=True)


def distribution_problems(wanted: list[Wanted]) -> Iterator[Problem]:
    """Yield what is missing, of another version, or installed on top of another."""
    from isda_suite.compat.versions import installation_problems

    known = installation_problems()
    for text in known:
        what, _, remedy = text.rpartition(': pip ')
        what, remedy = (what, f'pip {remedy}') if what else (text, 'install them again')
        yield Problem(what.removesuffix('. Install a pair that fits'), remedy)
    for one in wanted:
        if one.extra or any(text.startswith(f'{one.name} is not installed') for text in known):
            continue
        if one.found is None:
            yield Problem(f'{one.name} is not installed', f"pip install '{one}'")
        elif not one.fits:
            what = f'{one.name} {one.found} is installed, this package needs {one.specifier}'
            yield Problem(what, f"pip install '{one}'")
    ours = {name: _version_of(name) for name in ('opencv-python', 'opencv-python-headless')}
    if None not in ours.values() and len(set(ours.values())) > 1:
        pair = ' and '.join(f'{name} {version}' for name, version in ours.items())
        yield Problem(
            f'{pair} own the same folder cv2/, which is a mixture of two versions',
            'pip uninstall -y opencv-python-headless opencv-python && pip install opencv-python',
        )


def python_problems() -> Iterator[Problem]:
    """Yield what is wrong with the interpreter."""
    low, high = _PYTHON
    if not low <= sys.version_info[:2] <= high:
        versions = f'{low[0]}.{low[1]} to {high[0]}.{high[1]}'
        yield Problem(
            f'Python {platform.python_version()} is not one of {versions}',
            f'make an environment with Python {versions}',
        )
    if sys.platform != 'linux':
        yield Problem(
            f'the system is {sys.platform}, which nobody has tried', 'use Linux', fatal=False
        )


def import_libraries() -> tuple[dict[str, str], list[Problem]]:
    """Import the libraries one after the other.

    Returns:
        Name to version of those that can be imported, and what is wrong with the others.
    """
    from isda_suite.compat.warning_filters import quiet_imports

    versions: dict[str, str] = {}
    problems = []
    for name in LIBRARIES:
        try:
            with quiet_imports():
                versions[name] = str(getattr(importlib.import_module(name), '__version__', '?'))
        except Exception as error:  # a library that is broken raises what it likes
            reason = f'{type(error).__name__}: {error}'.strip()
            problems.append(
                Problem(
                    f'{name} cannot be imported: {reason.splitlines()[0][:300]}',
                    'mend what is listed above it first; if nothing is, pip install '
                    f'--force-reinstall --no-deps {_distribution_of(name)}',
                )
            )
    return versions, problems


def _distribution_of(module: str) -> str:
    found = metadata.packages_distributions().get(module)
    return found[0] if found else module


def probe_problems(versions: dict[str, str]) -> Iterator[Problem]:
    """Yield what fails when the libraries are used together, though each can be imported."""
    for needs, what, probe in _PROBES:
        if not all(name in versions for name in needs):
            continue
        try:
            probe()
        except Exception as error:
            first = (f'{type(error).__name__}: {error}'.splitlines() or [''])[0][:300]
            yield Problem(
                f'{what} does not work: {first}',
                'install a pair that fits: pip install --force-reinstall '
                f'{" ".join(map(_distribution_of, needs))}',
            )


def _arrays_become_tensors() -> None:
    import numpy as np
    import torch

    torch.from_numpy(np.ones(2, np.float32)).numpy()


def _boxes_are_suppressed() -> None:
    import torch
    from torchvision.ops import nms

    nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)


def _pictures_are_coded() -> None:
    import cv2
    import numpy as np

    done, _ = cv2.imencode('.png', np.zeros((2, 2, 3), np.uint8))
    if not done:
        raise RuntimeError('cv2.imencode says no')


_PROBES: tuple[tuple[tuple[str, ...], str, Callable[[], None]], ...] = (
    (('numpy', 'torch'), 'numpy arrays as tensors of torch', _arrays_become_tensors),
    (('torch', 'torchvision'), 'an operator of torchvision', _boxes_are_suppressed),
    (('numpy', 'cv2'), 'writing a picture with OpenCV', _pictures_are_coded),
)


def resource_problems() -> Iterator[Problem]:
    """Yield what is missing of the package itself."""
    from isda_suite.resources import resource_root

    again = 'install isda_suite again'
    try:
        root = resource_root()
    except FileNotFoundError as error:
        yield Problem(str(error), again)
        return
    for folder in ('tools', 'demo'):
        if not (root / folder).is_dir():
            yield Problem(f'{root / folder} is missing: the installation is incomplete', again)
    from isda_suite.apis.zoo import list_models

    try:
        absent = [model.config for model in list_models() if not model.config.is_file()]
    except (ValueError, ImportError) as error:  # ConfigError among them; yaml may be missing
        yield Problem(f'the model zoo cannot be read: {error}', again)
        return
    if absent:
        yield Problem(f'{absent[0]} and {len(absent) - 1} more configurations are missing', again)


def machine_problems(cache: Path) -> Iterator[Problem]:
    """Yield what of the machine will get in the way.

    Args:
        cache: The folder for fetched weights.
    """
    place = next(folder for folder in (cache, *cache.parents) if folder.exists())
    if not os.access(place, os.W_OK):
        yield Problem(
            f'the cache folder {cache} cannot be written',
            'set ISDA_CACHE_DIR to a folder of yours',
            fatal=False,
        )
    if _SHARED_MEMORY.is_dir() and (size := shutil.disk_usage(_SHARED_MEMORY).total) < _MIN_SHARED:
        yield Problem(
            f'{_SHARED_MEMORY} has {size >> 20} MB; data loading processes pass batches through it '
            'and die with "Bus error" when it is full',
            'give the container more (docker run --shm-size=8g), or set num_workers=0',
            fatal=False,
        )


def extras(wanted: list[Wanted]) -> dict[str, dict[str, Any]]:
    """Return the optional extras: what is there, and what is missing.

    Args:
        wanted: From :func:`wanted_distributions`.
    """
    found: dict[str, dict[str, Any]] = {}
    for one in wanted:
        if one.extra:
            parts = found.setdefault(one.extra, {'complete': True, 'found': {}, 'missing': []})
            if one.fits:
                parts['found'][one.name] = one.found
            else:
                parts['complete'] = False
                parts['missing'].append(str(one))
    return found
