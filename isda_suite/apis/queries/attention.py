"""Pictures of where a model's queries look: the points its deformable attention samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from isda_suite.apis.inference import find_images, iterate_predictions
from isda_suite.apis.videos.clip_pipeline import clip_length
from isda_suite.datasets.image_file import read_as_predicted
from isda_suite.engine.errors import ConfigError
from isda_suite.visualization.attention import draw_points
from isda_suite.visualization.colours import class_colours
from isda_suite.visualization.pictures import (
    contact_sheet,
    save_picture,
    with_caption,
    with_legend,
)

from .attention_record import (
    PARTS,
    SampledPoints,
    choose_layer,
    deformable_layers,
    recorded,
)

Array = NDArray[Any]


@dataclass(frozen=True)
class AttentionSettings:
    """What to draw.

    Args:
        part: ``'decoder'`` or ``'encoder'``.
        layer: From 0, or from the end if negative.
        queries: Numbers of the decoder's queries; empty takes those of the best instances.
        num_best: How many of the best instances, where no query is named.
        heads: Which heads; empty for all.
        at: (x, y) of the image whose token of the encoder is drawn.
        level: The level (of a video: the frame) of that token.
        separate: Draw every head in a picture of its own, on one sheet.

    Raises:
        ConfigError: if the part is unknown, or the encoder is asked for without a place.
    """

    part: str = 'decoder'
    layer: int = -1
    queries: tuple[int, ...] = ()
    num_best: int = 3
    heads: tuple[int, ...] = ()
    at: tuple[float, float] | None = None
    level: int = 0
    separate: bool = False

    def __post_init__(self) -> None:
        """Check the values."""
        if self.part not in PARTS:
            raise ConfigError(f'part must be one of {", ".join(PARTS)}, got {self.part!r}')
        if self.num_best < 1:
            raise ConfigError(f'num_best must be at least 1, got {self.num_best}')


@dataclass(frozen=True)
class Looking:
    """One query, and what there is to say of it.

    Args:
        query: Its number.
        text: For the caption.
        mask: (H, W) bool of its instance, ``None`` without one.
    """

    query: int
    text: str
    mask: Array | None = None


def draw_attention(
    model: nn.Module, source: str | Path, out_dir: str | Path, settings: AttentionSettings
) -> list[Path]:
    """Draw where queries look.

    Args:
        model: From :func:`.model.load_model`; of videos it gets the first clip of the source.
        source: An image, a folder or pattern of images; for a model of clips a video.
        out_dir: Folder for the pictures.
        settings: What to draw.

    Returns:
        The pictures.

    Raises:
        ConfigError: if the model has no such layer, query or head.
        DataError: if there is nothing to read.
    """
    if clip_length(model) is not None:
        from .attention_video import draw_clip_attention

        return draw_clip_attention(model, source, out_dir, settings)
    if settings.part == 'encoder' and settings.at is None:
        raise ConfigError('--part encoder: say at which place of the image: --at X Y')
    layers = deformable_layers(model, settings.part)
    layer = choose_layer(layers, settings.layer, f'deformable attention of the {settings.part}')
    where = f'{settings.part} layer {layers.index(layer)} (of 0 to {len(layers) - 1})'
    written = []
    for path in find_images(source):
        with recorded(layer) as found:
            [prediction] = iterate_predictions(model, [path], progress=False)
        points = _require(found.points, settings)
        sample = prediction.sample
        image = np.ascontiguousarray(read_as_predicted(str(path), sample.ori_shape)[..., ::-1])
        for one in _looking(model, sample, points, settings):
            picture = draw_looking(image, points, one, sample.metainfo, settings)
            caption = f'{where}, {one.text}'
            name = f'{Path(prediction.name).stem}_query{one.query}.png'
            written.append(save_picture(Path(out_dir) / name, with_caption(picture, caption)))
    return written


def _require(points: SampledPoints | None, settings: AttentionSettings) -> SampledPoints:
    if points is None:
        raise ConfigError(f'the {settings.part} was not used in this forward pass')
    heads = points.weights.shape[1]
    wrong = [head for head in settings.heads if not 0 <= head < heads]
    if wrong:
        raise ConfigError(f'--heads {wrong[0]}: the layer has {heads} heads, from 0')
    wrong = [query for query in settings.queries if not 0 <= query < len(points.weights)]
    if wrong:
        raise ConfigError(f'--query {wrong[0]}: there are {len(points.weights)} queries, from 0')
    return points


def _looking(
    model: Any, sample: Any, points: SampledPoints, settings: AttentionSettings
) -> list[Looking]:
    """Choose the queries to draw."""
    if settings.part == 'encoder':
        at = settings.at or (0.0, 0.0)
        query = token_at(points, at, sample.metainfo, settings.level)
        return [Looking(query, f'token at ({at[0]:g}, {at[1]:g}) of level {settings.level}')]
    instances = sample.get('pred_instances')
    if instances is None or 'query_inds' not in instances:
        if not settings.queries:
            raise ConfigError('this model does not say which query an instance is of: use --query')
        return [Looking(query, f'query {query}') for query in settings.queries]
    # The first is the best; a query may be there with several classes.
    places: dict[int, int] = {}
    for place, query in enumerate(instances.query_inds.tolist()):
        places.setdefault(query, place)
    chosen = settings.queries or tuple(places)[: settings.num_best]
    classes = model.dataset_meta.get('classes') or ()
    return [_of_query(query, places.get(query), instances, classes) for query in chosen]


def _of_query(query: int, place: int | None, instances: Any, classes: Sequence[str]) -> Looking:
    if place is None:
        return Looking(query, f'query {query}: among no instance')
    label = int(instances.labels[place])
    name = classes[label] if label < len(classes) else f'class {label}'
    mask = instances.masks[place].cpu().numpy() if 'masks' in instances else None
    return Looking(query, f'query {query}: {name} {float(instances.scores[place]):.2f}', mask)


def draw_looking(
    image: Array,
    points: SampledPoints,
    one: Looking,
    meta: dict[str, Any],
    settings: AttentionSettings,
) -> Array:
    """Draw the points of a query, all heads together or on a sheet.

    Args:
        image: (H, W, 3) uint8 RGB, as read.
        points: What was recorded.
        one: The query.
        meta: ``batch_input_shape``, ``img_shape`` and ``ori_shape``.
        settings: Which heads, and how.
    """
    heads = list(settings.heads) or list(range(points.weights.shape[1]))
    where = to_pixels(points.locations[one.query, heads].flatten(1, 2), meta)
    weights = points.weights[one.query, heads].flatten(1).numpy()
    reference = to_pixels(points.reference[one.query, :1, :2], meta)
    every = class_colours(points.weights.shape[1])
    colours = [every[head] for head in heads]
    if not settings.separate:
        drawn = draw_points(image, where, weights, reference, one.mask, colours)
        return with_legend(drawn, [(f'head {head}', colours[i]) for i, head in enumerate(heads)])
    largest = float(weights.max())
    sheet = [
        with_caption(
            draw_points(
                image, where[i : i + 1], weights[i : i + 1], reference, one.mask,
                colours[i : i + 1], largest,
            ),
            f'head {head}',
        )
        for i, head in enumerate(heads)
    ]  # fmt: skip
    return contact_sheet(sheet, columns=4)


def to_pixels(locations: torch.Tensor, meta: dict[str, Any]) -> Array:
    """Turn places of the padded input, 0..1, into pixels of the image as read; pixel 0 is at 0.

    Args:
        locations: (..., 2) as (x, y).
        meta: ``batch_input_shape``, ``img_shape`` and ``ori_shape``, each (h, w).
    """
    padded, resized, original = (
        np.array(meta[key][1::-1], dtype=float)
        for key in ('batch_input_shape', 'img_shape', 'ori_shape')
    )
    return locations.double().numpy() * padded * original / resized - 0.5


def token_at(
    points: SampledPoints, at_xy: tuple[float, float], meta: dict[str, Any], level: int
) -> int:
    """Return the number of the encoder's token at a place of the image.

    Raises:
        ConfigError: if the place is outside, or there is no such level.
    """
    if not 0 <= level < len(points.shapes):
        raise ConfigError(f'--level {level}: there are {len(points.shapes)} levels, from 0')
    padded, resized, original = (
        np.array(meta[key][1::-1], dtype=float)
        for key in ('batch_input_shape', 'img_shape', 'ori_shape')
    )
    if not all(0 <= value < side for value, side in zip(at_xy, original, strict=True)):
        raise ConfigError(f'--at {at_xy}: the image is {int(original[0])} x {int(original[1])}')
    share = (np.array(at_xy) + 0.5) * resized / original / padded
    height, width = points.shapes[level]
    column, row = (int(value) for value in share * (width, height))
    start = sum(h * w for h, w in points.shapes[:level])
    return start + min(row, height - 1) * width + min(column, width - 1)
