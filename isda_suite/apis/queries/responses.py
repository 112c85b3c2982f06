"""Show what queries answer on their own and on other images, of one model or of two beside it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.config import Config
from numpy.typing import NDArray
from torch import Tensor

from isda_suite.apis.model import load_model
from isda_suite.checkpoint.atomic import write_atomically
from isda_suite.engine.config_file import read_config
from isda_suite.engine.errors import ConfigError
from isda_suite.layers.query_adapter import QueryAdapter, QueryRecord
from isda_suite.visualization.pictures import save_picture
from isda_suite.visualization.responses import ResponsePanel, ResponseRow, draw_responses

from .recorded_images import (
    RecordedImage,
    mask_quality,
    open_data,
    record_images,
    require_indices,
    responses_to,
)
from .response_statistics import ResponseStatistics, measure, measure_records

Array = NDArray[Any]
#: Name, configuration and weights of a model.
Model = tuple[str, str | Path | Config, str | Path | None]


@dataclass(frozen=True)
class Selection:
    """What is looked at.

    Attributes:
        split: Data that images are taken of: ``'train'``, ``'val'`` or ``'test'``.
        images: Images whose queries are shown, by place in the data; ``None`` takes the first
            ``num_images`` with instances.
        num_images: How many, where ``images`` are not given.
        instances: Instances of each image, by place among its annotations after the pipeline;
            ``None`` takes those that the models together find best.
        queries: Instances of an image that are shown at most.
        others: Other images on which each query is shown.
        hardest: Show those that are answered most strongly, on average of the models; otherwise
            those that come next in the data.
        statistics_images: Images of the data over which statistics are computed, from the first.
        max_queries: Queries of an image that count in the statistics at most.
        seed: Of augmentation, matching and sampling.
    """

    split: str = 'val'
    images: tuple[int, ...] | None = None
    num_images: int = 3
    instances: tuple[int, ...] | None = None
    queries: int = 2
    others: int = 3
    hardest: bool = False
    statistics_images: int = 30
    max_queries: int = 32
    seed: int = 0


@dataclass
class Watched:
    """A model whose queries were recorded.

    Attributes:
        name: What pictures call it.
        adapter: Of its head.
        images: Its records, in the same order for all models.
    """

    name: str
    adapter: QueryAdapter
    images: list[RecordedImage]


def show_responses(
    models: Sequence[Model],
    out_dir: str | Path,
    selection: Selection | None = None,
    adapter: str = 'auto',
    device: str = 'auto',
    trust: bool = False,
) -> tuple[Path, Path, dict[str, Any]]:
    """Draw responses of chosen queries and measure those of many.

    Args:
        models: For each model its name, configuration and checkpoint (``None``: random weights).
            The data are those of the first.
        out_dir: Gets ``responses.png`` and ``responses.json``.
        selection: What is looked at.
        adapter: Name of a query adapter; ``'auto'`` goes by the head.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        trust: Read checkpoints that may run code.

    Returns:
        The picture, the file of statistics, and what stands in it.

    Raises:
        ConfigError: if the configuration or the selection cannot work.
        CheckpointError: if a checkpoint is damaged or of another model.
        ModelConfigError: if a head has no adapter, with those that are known.
    """
    chosen = selection or Selection()
    dataset, watched = _watch(models, chosen, adapter, device, trust)
    classes = dataset.metainfo.get('classes') or ()
    shown = [
        show_query(watched, place, instance, chosen, classes)
        for place, instance in choose_queries(watched, chosen)
    ]
    report = dict(
        split=chosen.split,
        images=len(watched[0].images),
        seed=chosen.seed,
        models=[
            dict(
                name=one.name,
                checkpoint=None if checkpoint is None else str(checkpoint),
                adapter=type(one.adapter).__name__,
                **measure(one.adapter, one.images),
            )
            for one, (_, _, checkpoint) in zip(watched, models, strict=True)
        ],
        shown=[statistics for _, statistics in shown],
    )
    picture = draw_responses([row for row, _ in shown], [one.name for one in watched])
    folder = Path(out_dir)
    with write_atomically(folder / 'responses.json', text=True) as file:
        json.dump(report, file, indent=1)
        file.write('\n')
    return save_picture(folder / 'responses.png', picture), folder / 'responses.json', report


def _watch(
    models: Sequence[Model], chosen: Selection, adapter: str, device: str, trust: bool
) -> tuple[Any, list[Watched]]:
    """Open the data and record the models one after another."""
    configs = [one if isinstance(one, Config) else read_config(one) for _, one, _ in models]
    dataset = open_data(configs[0], chosen.split)
    require_indices(chosen.images or (), dataset, chosen.split)
    if len(dataset) < 2:
        raise ConfigError(f'the {chosen.split} data have {len(dataset)} images, 2 are needed')
    places = sorted({*(chosen.images or ()), *range(min(chosen.statistics_images, len(dataset)))})
    watched = []
    for (name, _, checkpoint), config in zip(models, configs, strict=True):
        model = load_model(config, checkpoint, device, trust)
        found = record_images(model, dataset, places, chosen.max_queries, adapter, chosen.seed)
        watched.append(Watched(name, *found))
    return dataset, watched


def choose_queries(watched: Sequence[Watched], selection: Selection) -> list[tuple[int, int]]:
    """Choose the instances whose queries are shown.

    Without a wish, these are the instances that all models have a query for, best found on
    average, so that no model is favoured.

    Args:
        watched: The models.
        selection: What is asked for.

    Returns:
        Places of images in the records, and instances of them.

    Raises:
        ConfigError: if an instance does not exist, or no image has an instance with a query.
    """
    records = watched[0].images
    if selection.images is None:
        places = [place for place, image in enumerate(records) if len(image.labels)]
        places = places[: selection.num_images]
    else:
        at = {image.index: place for place, image in enumerate(records)}
        places = [at[index] for index in selection.images]
    chosen: list[tuple[int, int]] = []
    for place in places:
        if selection.instances is not None:
            _require_instances(records[place], selection.instances)
            chosen += [(place, instance) for instance in selection.instances]
            continue
        quality = _common_quality(watched, place)
        best = sorted(quality, key=lambda instance: (-quality[instance], instance))
        chosen += [(place, instance) for instance in best[: selection.queries]]
    if not chosen:
        indices = ', '.join(str(records[place].index) for place in places) or 'looked at'
        raise ConfigError(
            f'no query was matched to an instance in the images {indices} of the '
            f'{selection.split} data; choose images with annotated instances'
        )
    return chosen


def _require_instances(image: RecordedImage, instances: Sequence[int]) -> None:
    missing = [instance for instance in instances if not 0 <= instance < len(image.labels)]
    if missing:
        raise ConfigError(
            f'instance {", ".join(map(str, missing))}: image {image.index} ({image.name}) has '
            f'{len(image.labels)} instances, numbered from 0'
        )


def _common_quality(watched: Sequence[Watched], place: int) -> dict[int, float]:
    """Return the mean quality of the best queries of the instances that all models have."""
    each = []
    for one in watched:
        image = one.images[place]
        values = mask_quality(one.adapter, image, image.best).tolist()
        each.append(dict(zip(image.best.gt_inds.tolist(), values, strict=True)))
    common = set(each[0]).intersection(*each[1:])
    return {instance: sum(one[instance] for one in each) / len(each) for instance in common}


def show_query(
    watched: Sequence[Watched],
    place: int,
    instance: int,
    selection: Selection,
    classes: Sequence[str],
) -> tuple[ResponseRow, dict[str, Any]]:
    """Make the row of an instance, and measure its best query of each model.

    Args:
        watched: The models.
        place: Of the image in the records.
        instance: Of the image.
        selection: Which other images are shown.
        classes: Names of classes.

    Returns:
        What is drawn, and the statistics.
    """
    image = watched[0].images[place]
    records = [query_of(one.adapter, one.images[place], instance) for one in watched]
    seen = [place, *_others(watched, records, place, selection)]
    label = int(image.labels[instance])
    height, width = image.picture.shape[:2]
    blocks, about = [], []
    for one, record in zip(watched, records, strict=True):
        own = one.images[place]
        blocks.append([_panel(one, own, record, one.images[at]) for at in seen])
        about.append(
            {'name': one.name}
            | measure_records(one.adapter, [] if record is None else [(own, record)], one.images)
        )
    name = classes[label] if label < len(classes) else f'class {label}'
    mask = image.masks[instance, :height, :width].bool().cpu().numpy()
    row = ResponseRow(image.picture, mask, f'{image.index}: {name} {instance}', blocks)
    return row, dict(
        image=image.index,
        file=image.name,
        instance=instance,
        label=name,
        others=[watched[0].images[at].index for at in seen[1:]],
        models=about,
    )


def _others(
    watched: Sequence[Watched],
    records: Sequence[QueryRecord | None],
    place: int,
    selection: Selection,
) -> list[int]:
    """Choose the other images on which a query is shown."""
    count = len(watched[0].images)
    others = [(place + step) % count for step in range(1, count)]
    if selection.hardest:
        answers = {
            at: sum(
                _mean_response(one.adapter, record, one.images[at])
                for one, record in zip(watched, records, strict=True)
                if record is not None
            )
            for at in others
        }
        others.sort(key=lambda at: -answers[at])
    return others[: selection.others]


def _mean_response(adapter: QueryAdapter, record: QueryRecord, image: RecordedImage) -> float:
    p = responses_to(adapter, record, image)
    inside = p[:, image.content((p.shape[-2], p.shape[-1]))]
    return float(inside.nan_to_num(0.0).mean())


def query_of(adapter: QueryAdapter, image: RecordedImage, instance: int) -> QueryRecord | None:
    """Return the best query of an instance alone; ``None`` if no query was matched to it."""
    found: Tensor = (image.best.gt_inds == instance).nonzero().flatten()
    return adapter.select(image.best, found) if len(found) else None


def _panel(
    one: Watched, own: RecordedImage, record: QueryRecord | None, image: RecordedImage
) -> ResponsePanel:
    """Let a query answer to an image and cut the padding off."""
    where = f'{image.index}' if image.index != own.index else 'own'
    if record is None:
        return ResponsePanel(image.picture, None, f'{where}: no query')
    p = responses_to(one.adapter, record, image)[0]
    statistics = ResponseStatistics()
    statistics.add(p[image.content((p.shape[-2], p.shape[-1]))])
    found = statistics.result()
    caption = f'{where}: mean {found["mean"]:.4f}, {found["share_above_half"]:.1%} > 0.5'
    height, width = image.picture.shape[:2]
    full = cv2.resize(
        p.float().cpu().numpy(), image.canvas_hw[::-1], interpolation=cv2.INTER_LINEAR
    )
    return ResponsePanel(image.picture, np.ascontiguousarray(full[:height, :width]), caption)
