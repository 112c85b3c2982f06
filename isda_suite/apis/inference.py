"""Load a trained model and predict images: files, folders, patterns or arrays."""

import copy
import glob
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import TRANSFORMS, DefaultScope
from numpy.typing import NDArray
from torch import nn

from isda_suite.compat.warning_filters import quiet_imports
from isda_suite.datasets.errors import DataError
from isda_suite.datasets.image_file import fault_of_content
from isda_suite.engine.dataset_config import innermost_dataset
from isda_suite.engine.errors import ConfigError

from .model import load_model

Image = str | Path | NDArray[Any]
__all__ = [
    'Prediction',
    'find_images',
    'iterate_predictions',
    'load_model',
    'predict',
]

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.ppm')


@dataclass
class Prediction:
    """One image and what the model found in it.

    Args:
        name: File name without folder; arrays are ``image_0`` and so on.
        source: Path or array that was given.
        sample: mmdet's ``DetDataSample`` (instances in ``pred_instances``, sizes of the original
            image), or mmseg's ``SegDataSample`` for a segmentor.
    """

    name: str
    source: Path | NDArray[Any]
    sample: Any


def find_images(images: Image | Sequence[Image]) -> list[Path | NDArray[Any]]:
    """List the images that paths, folders, patterns and arrays stand for.

    Args:
        images: A file, a folder (its images, sorted, without sub-folders), a pattern with ``*``,
            a BGR uint8 array (H, W, 3), or several of these.

    Returns:
        Paths and arrays in the order given.

    Raises:
        DataError: if a path does not exist, a folder or pattern has no image, or an array is no
            image.
    """
    if isinstance(images, str | Path | np.ndarray):
        images = [images]
    found: list[Path | NDArray[Any]] = []
    for image in images:
        found += [check_array(image)] if isinstance(image, np.ndarray) else _expand(image)
    return found


def predict(
    model: nn.Module,
    images: Image | Sequence[Image],
    score_thr: float = 0.0,
    batch_size: int = 1,
    progress: bool = True,
) -> list[Any]:
    """Predict images.

    Args:
        model: From :func:`load_model`.
        images: As for :func:`find_images`.
        score_thr: Drop instances below this score (0..1).
        batch_size: Images per forward pass.
        progress: Show a progress bar.

    Returns:
        One data sample per image, on the CPU; see :class:`Prediction`.

    Raises:
        DataError: if an image is missing or unreadable, with its path and the cause.
    """
    found = iterate_predictions(model, images, score_thr, batch_size, progress)
    return [prediction.sample for prediction in found]


def iterate_predictions(
    model: nn.Module,
    images: Image | Sequence[Image],
    score_thr: float = 0.0,
    batch_size: int = 1,
    progress: bool = True,
) -> Iterator[Prediction]:
    """Predict images one batch at a time, for folders whose results do not fit into memory.

    Args:
        model: From :func:`load_model`.
        images: As for :func:`find_images`.
        score_thr: Drop instances below this score (0..1).
        batch_size: Images per forward pass.
        progress: Show a progress bar.

    Yields:
        The predictions in the order of the images.

    Raises:
        DataError: if an image is missing or unreadable.
        ValueError: if ``batch_size`` is below 1.
    """
    from tqdm import tqdm

    if batch_size < 1:
        raise ValueError(f'batch_size must be at least 1, got {batch_size}')
    sources = find_images(images)
    prepare = ImagePipeline(model.cfg)
    with tqdm(total=len(sources), unit='image', disable=not progress) as bar:
        for start in range(0, len(sources), batch_size):
            batch = sources[start : start + batch_size]
            samples = predict_prepared(model, [prepare(s, start + i) for i, s in enumerate(batch)])
            for index, (source, sample) in enumerate(zip(batch, samples, strict=True), start):
                name = source.name if isinstance(source, Path) else f'image_{index}'
                yield Prediction(name, source, _keep(sample, score_thr))
                bar.update()


def predict_prepared(model: nn.Module, images: Sequence[dict[str, Any]]) -> list[Any]:
    """Predict images that went through a pipeline; each as if it were alone.

    Only images that are padded to the same size share a pass, so that none gets a wider padding
    from its neighbours.

    Args:
        model: From :func:`load_model`.
        images: From :class:`ImagePipeline`.

    Returns:
        A data sample of each, on the CPU.
    """
    passes: dict[Any, list[int]] = {}
    for place, image in enumerate(images):
        passes.setdefault(_padded_size(model, image, place), []).append(place)
    found: list[Any] = [None] * len(images)
    for places in passes.values():
        data = pseudo_collate([images[place] for place in places])
        with torch.no_grad():
            samples = model.test_step(data)  # type: ignore[operator]
        for place, sample in zip(places, samples, strict=True):
            found[place] = sample.cpu()
    return found


def _padded_size(model: nn.Module, image: dict[str, Any], place: int) -> Any:
    """Return the size a pass gives an image; its place for several views of one image."""
    size_hw = getattr(image['inputs'], 'shape', (place,))[1:]
    preprocessor: Any = getattr(model, 'data_preprocessor', None)
    test_cfg = getattr(preprocessor, 'test_cfg', None) or {}
    divisor = getattr(preprocessor, 'pad_size_divisor', None) or test_cfg.get('size_divisor') or 1
    return tuple(-(-side // divisor) for side in size_hw) or place


class ImagePipeline:
    """The config's test pipeline without annotations, with its first step told apart.

    Only loading may fail because of the file; an error in a later step is not the image's fault.
    """

    def __init__(self, cfg: Config) -> None:
        steps = pipeline_of(cfg)
        kinds = [str(step['type']).rpartition('.')[2] for step in steps]
        rest = [
            step
            for step, kind in zip(steps[1:], kinds[1:], strict=True)
            if not kind.startswith('Load')
        ]
        with quiet_imports(), DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
            self.load: Callable[..., Any] = TRANSFORMS.build(steps[0])
            self.take: Callable[..., Any] = TRANSFORMS.build(dict(type='LoadImageFromNDArray'))
            self.rest: list[Callable[..., Any]] = [TRANSFORMS.build(step) for step in rest]

    def __call__(self, source: Path | NDArray[Any], index: int) -> dict[str, Any]:
        if isinstance(source, Path):
            results = self._load_file(source, dict(img_path=str(source), img_id=index))
        else:
            results = self.take(dict(img=source, img_id=index))
        results.setdefault('reduce_zero_label', False)
        for step in self.rest:
            results = step(results)
        return results

    def _load_file(self, path: Path, results: dict[str, Any]) -> dict[str, Any]:
        try:
            return self.load(results)
        except Exception as error:  # decoders raise what they like
            try:
                cause = fault_of_content(path.read_bytes())
            except OSError as unreadable:
                cause = str(unreadable)
            raise DataError(f'{path}: {cause}') from error


def pipeline_of(cfg: Config) -> list[dict[str, Any]]:
    """Return the steps of a config's test pipeline.

    Raises:
        ConfigError: if there are none.
    """
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    if 'pipeline' not in dataset:
        dataset = innermost_dataset(dataset)
    if not dataset.get('pipeline'):
        raise ConfigError(f'{cfg.filename}: test_dataloader.dataset has no pipeline')
    return list(copy.deepcopy(dataset['pipeline']))


def _expand(path: str | Path) -> list[Path | NDArray[Any]]:
    file = Path(path).expanduser()
    if file.is_file():
        return [file]
    if file.is_dir():
        candidates = sorted(file.iterdir())
    elif glob.has_magic(str(path)):
        candidates = [Path(name) for name in sorted(glob.glob(str(file), recursive=True))]
    else:
        raise DataError(f'no image {path} (working directory {Path.cwd()})')
    images = [f for f in candidates if f.is_file() and f.suffix.lower() in SUFFIXES]
    if not images:
        raise DataError(f'{path}: no file here ends with one of {" ".join(SUFFIXES)}')
    return list(images)


def check_array(image: NDArray[Any]) -> NDArray[Any]:
    """Refuse an array that is no image.

    Raises:
        DataError: if it is not (H, W, 3) uint8.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise DataError(
            f'an image given as an array must be (H, W, 3) uint8 BGR, got {image.dtype} '
            f'{image.shape}'
        )
    return image


def _keep(sample: Any, score_thr: float) -> Any:
    if score_thr > 0 and 'pred_instances' in sample:
        sample.pred_instances = sample.pred_instances[sample.pred_instances.scores >= score_thr]
    return sample
