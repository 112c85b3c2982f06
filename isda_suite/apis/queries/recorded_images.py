"""Run a training pass of a query-based detector over images of a data set, to look at its queries.

Nothing is trained: the loss is computed without gradient, with the statistics of normalisation
layers as at inference, and with random numbers of a seed, so the same call gives the same records.
"""

import copy
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.dataset import pseudo_collate
from numpy.typing import NDArray
from torch import Tensor, nn

from isda_suite.apis.annotated_pipelines import with_annotations
from isda_suite.engine.dataset_config import innermost_dataset
from isda_suite.engine.errors import ConfigError
from isda_suite.layers.mask_coverage import bitmap_of
from isda_suite.layers.query_adapter import QueryAdapter, QueryRecord, detached, find_adapter
from isda_suite.methods.iuq.pixel_uniqueness import rows_of_instances
from isda_suite.methods.iuq.uniqueness import spread_queries

Array = NDArray[Any]
_TRIES = 10  # draws of a pipeline that gives images back, such as a crop without instances


@dataclass
class RecordedImage:
    """One image and what a model's training pass left behind.

    Shapes: N queries, G instances, (H, W) the padded image, (h, w) a grid of responses.

    Attributes:
        index: Place in the data set.
        name: File name, or the image's id.
        picture: (H', W', 3) uint8 RGB, as the pipeline made it, without padding.
        canvas_hw: (H, W).
        masks: (G, H, W) uint8.
        labels: (G,) int64.
        record: N queries that took part in the loss, spread over the instances.
        best: One query of every instance that has one: the best.
        rows: (P, D) what a memory would store of the instances; ``None`` without them.
    """

    index: int
    name: str
    picture: Array
    canvas_hw: tuple[int, int]
    masks: Tensor
    labels: Tensor
    record: QueryRecord
    best: QueryRecord
    rows: Tensor | None

    def inside(self, gt_inds: Tensor, size_hw: tuple[int, int]) -> Tensor:
        """Return which cells belong to instances, (N, h, w) bool; at least one cell of each."""
        share = F.interpolate(self.masks[None, gt_inds].float(), size_hw, mode='area')[0]
        most = share.flatten(1).amax(dim=1)[:, None, None] if len(share) else share
        return (share >= 0.5) | ((share == most) & (most < 0.5) & (share > 0))

    def content(self, size_hw: tuple[int, int]) -> Tensor:
        """Return which cells (h, w) lie in the image, not in its padding."""
        inside = []
        for length, size, canvas in zip(size_hw, self.picture.shape, self.canvas_hw, strict=False):
            centres = (torch.arange(length, device=self.masks.device) + 0.5) * (canvas / length)
            inside.append(centres < size)
        return inside[0][:, None] & inside[1]


def open_data(cfg: Any, split: str) -> Any:
    """Build the data set of a split, with annotations, and without wrappers that repeat images.

    Args:
        cfg: The configuration.
        split: ``'train'``, ``'val'`` or ``'test'``.

    Raises:
        ConfigError: if there is no such data or its pipeline does not pack detection samples.
    """
    from mmengine.registry import DefaultScope

    import isda_suite.datasets  # noqa: F401  (loads mmdet's data sets)
    from isda_suite.registry import DATASETS

    loader = cfg.get(f'{split}_dataloader')
    if not loader:
        raise ConfigError(f'the configuration has no {split}_dataloader')
    dataset = with_annotations(copy.deepcopy(innermost_dataset(loader['dataset'])))
    steps = list(dataset.get('pipeline') or [])
    last = str(steps[-1]['type']) if steps else 'no pipeline'
    if not last.endswith('PackDetInputs'):
        raise ConfigError(
            f'{split}_dataloader.dataset.pipeline: expected to end with PackDetInputs, got {last}: '
            'responses are shown for images with annotated instances'
        )
    drop = dict(type='isda_suite.DropEmptyMasks', reject_empty=False)
    dataset = {**dataset, 'pipeline': [*steps[:-1], drop, steps[-1]]}
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmdet')):
        return DATASETS.build(dataset)


def require_indices(indices: Sequence[int], dataset: Any, split: str) -> None:
    """Refuse images that a data set does not have.

    Raises:
        ConfigError: naming them and what there is.
    """
    missing = [index for index in indices if not 0 <= index < len(dataset)]
    if missing:
        raise ConfigError(
            f'image {", ".join(map(str, missing))}: the {split} data have {len(dataset)} images, '
            f'numbered from 0 to {len(dataset) - 1}'
        )


def record_images(
    model: nn.Module,
    dataset: Any,
    indices: Sequence[int],
    max_queries: int = 32,
    adapter: str = 'auto',
    seed: int = 0,
) -> tuple[QueryAdapter, list[RecordedImage]]:
    """Run a training pass over images, one by one.

    Args:
        model: A plain detector, or one with IUQ around; it is left as it was.
        dataset: From :func:`open_data`.
        indices: Images of it.
        max_queries: Queries of an image that are kept at most, beside the best ones.
        adapter: Of a plain detector; one with IUQ brings its own.
        seed: Of augmentation, matching and sampling, for each image.

    Returns:
        The adapter of the detector's head, and a record of each image.

    Raises:
        ModelConfigError: if no adapter is known for the head, with those that are.
        ConfigError: if the pipeline gives an image back again and again.
    """
    plain = vars(model).get('plain', model)
    own = vars(model).get('adapter')
    found = find_adapter(plain, adapter) if own is None or adapter != 'auto' else own
    recorded = []
    with _as_in_training(model, plain), torch.no_grad():
        for index in indices:
            with fixed_seed(seed):
                recorded.append(_record(model, plain, found, dataset, index, max_queries))
    return found, recorded


def _record(
    model: Any, plain: Any, adapter: QueryAdapter, dataset: Any, index: int, max_queries: int
) -> RecordedImage:
    sample = _sample(dataset, index)
    image = np.ascontiguousarray(sample['inputs'].numpy().transpose(1, 2, 0)[..., ::-1])
    data = model.data_preprocessor(pseudo_collate([sample]), True)
    inputs, samples = data['inputs'], data['data_samples']
    with adapter.record(plain, samples) as records:
        plain.loss(inputs, samples)
    (record,), instances = records, samples[0].gt_instances
    record.pixels = detached(record.pixels)
    canvas_hw = (inputs.shape[-2], inputs.shape[-1])
    rows = rows_of_instances(adapter, record, instances, canvas_hw)
    meta = samples[0].metainfo
    found = RecordedImage(
        index,
        Path(str(meta.get('img_path') or meta.get('img_id'))).name,
        image,
        canvas_hw,
        bitmap_of(instances.masks, canvas_hw, inputs.device),
        instances.labels,
        record,
        record,
        None if rows is None else rows[0],
    )
    found.best = adapter.select(record, _best_of_instances(adapter, found))
    found.record = adapter.select(record, spread_queries(record.gt_inds, max_queries))
    return found


def _sample(dataset: Any, index: int) -> Any:
    dataset.full_init()
    for _ in range(_TRIES):
        sample = dataset.pipeline(dataset.get_data_info(index))
        if sample is not None:
            return sample
    raise ConfigError(
        f'image {index}: the pipeline of the data gave it back {_TRIES} times, as one does whose '
        'crops lose all instances; choose another image or the data of another split'
    )


def _best_of_instances(adapter: QueryAdapter, image: RecordedImage) -> Tensor:
    """Return for each instance with queries the one that finds it best, by instance."""
    record = image.record
    if len(record.gt_inds) == 0:
        return record.gt_inds
    quality = mask_quality(adapter, image, record)
    order = quality.argsort(descending=True, stable=True)
    firsts = [
        order[(record.gt_inds[order] == instance).nonzero()[0, 0]]
        for instance in sorted(set(record.gt_inds.tolist()))
    ]
    return torch.stack(firsts)


def mask_quality(adapter: QueryAdapter, image: RecordedImage, record: QueryRecord) -> Tensor:
    """Compute how well queries of an image find their instances: the soft IoU, (N,) in 0..1."""
    if len(record.gt_inds) == 0:
        return record.queries.new_zeros(0)
    p = responses_to(adapter, record, image).nan_to_num(0.0)
    mask = image.inside(record.gt_inds, (p.shape[-2], p.shape[-1])).float()
    overlap = (p * mask).sum(dim=(1, 2))
    return overlap / ((p + mask).sum(dim=(1, 2)) - overlap).clamp(min=1e-6)


def responses_to(adapter: QueryAdapter, record: QueryRecord, image: RecordedImage) -> Tensor:
    """Let queries answer to an image.

    Args:
        adapter: Of the head.
        record: N queries, of this image or another one.
        image: The image that is asked.

    Returns:
        (N, h, w) in 0..1, NaN where a query was not asked.
    """
    with torch.no_grad():
        logits = adapter.respond_map(record, image.record.pixels)
        return adapter.on_canvas(record, logits, image.canvas_hw)


@contextmanager
def _as_in_training(model: nn.Module, plain: nn.Module) -> Iterator[None]:
    """Let heads do what they do in training, but no statistics change and nothing drop out."""
    # A detector that IUQ is put around is none of its modules.
    modes = {module: module.training for module in (*model.modules(), plain)}
    preprocessor: Any = model.data_preprocessor
    augments = getattr(preprocessor, 'batch_augments', None)
    model.train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.MultiheadAttention):
            module.eval()
        elif 'Drop' in type(module).__name__:
            module.eval()
    if augments is not None:
        preprocessor.batch_augments = None
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        if augments is not None:
            preprocessor.batch_augments = augments


@contextmanager
def fixed_seed(seed: int) -> Iterator[None]:
    """Draw what the block draws from a seed, and leave all generators as they were."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
