"""Watch boxes become instances: what a diffusion model has at every sampling step."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from numpy.typing import NDArray
from torch import Tensor, nn

from isda_suite.apis.inference import Image, ImagePipeline, find_images
from isda_suite.engine.errors import ConfigError
from isda_suite.visualization.diffusion import BoxFrame, draw_boxes, save_animation
from isda_suite.visualization.instances import above_threshold, draw_instances
from isda_suite.visualization.pictures import beside, save_picture, with_caption

Array = NDArray[Any]


def draw_diffusion(
    model: nn.Module,
    image: Image,
    out_dir: str | Path,
    score_thr: float = 0.3,
    name: str = 'image',
) -> tuple[Path, Path]:
    """Draw the way from random boxes to instances as a strip and as an animation.

    Args:
        model: A diffusion model from :func:`isda_suite.apis.model.load_model`.
        image: A file or a BGR array.
        out_dir: Gets ``NAME_diffusion.png`` and ``NAME_diffusion.gif``.
        score_thr: Boxes with a lower score are grey, instances with a lower one left out, 0..1.
        name: NAME.

    Returns:
        Both files.

    Raises:
        ConfigError: if the model does not sample boxes.
        DataError: if the image is missing or unreadable.
    """
    (source,) = find_images([image])
    frames, found, picture = trace_diffusion(model, source)
    meta: Any = model.dataset_meta
    classes = meta.get('classes') or ()
    drawn = [draw_boxes(picture, frame, len(classes) or 80, score_thr) for frame in frames]
    result = draw_instances(picture, above_threshold(found, score_thr), meta.get('classes'))
    result = _cut(result, drawn[0])
    panels = [with_caption(one, frame.caption) for one, frame in zip(drawn, frames, strict=True)]
    panels.append(with_caption(result, f'result, scores of at least {score_thr:g}'))
    shown = [frame.in_strip for frame in frames] + [True]
    strip = beside([panel for panel, keep in zip(panels, shown, strict=True) if keep])
    folder = Path(out_dir)
    return (
        save_picture(folder / f'{name}_diffusion.png', strip),
        save_animation(folder / f'{name}_diffusion.gif', panels),
    )


def trace_diffusion(model: nn.Module, source: Path | Array) -> tuple[list[BoxFrame], Any, Array]:
    """Run a diffusion model on an image and keep the boxes of every step.

    Args:
        model: The model.
        source: A file or a BGR array.

    Returns:
        The moments, in pixels of the original image; the detections; and the image, RGB.

    Raises:
        ConfigError: if the model does not sample boxes.
    """
    if not callable(getattr(model, 'sample', None)):
        raise ConfigError(
            f'{type(model).__name__} does not sample boxes: only diffusion models (IDIP) can be '
            'watched'
        )
    cfg: Any = model.cfg
    data = pseudo_collate([ImagePipeline(cfg)(source, 0)])
    with torch.no_grad():
        data = model.data_preprocessor(data, False)  # type: ignore[operator]
        metas = [sample.metainfo for sample in data['data_samples']]
        feats = model.extract_feat(data['inputs'])  # type: ignore[operator]
        steps = list(model.sample(feats, metas))  # type: ignore[operator]
        found = model.decode(feats, steps[-1], metas)[0].cpu()  # type: ignore[operator]
    height, width = metas[0]['img_shape'][:2]
    out_height, out_width = metas[0]['ori_shape'][:2]
    scale = np.array([out_width / width, out_height / height] * 2)
    return _frames(steps, scale), found, _picture(source, (out_height, out_width))


def _frames(steps: list[Any], scale: Array) -> list[BoxFrame]:
    """Take the moments before and after every step of the first image."""
    frames = []
    for number, step in enumerate(steps, start=1):
        before = 'random boxes' if number == 1 else f'noisy boxes before step {number}'
        noisy = _array(step.boxes_in[0]) * scale
        frames.append(BoxFrame(f'{before} (time {step.time})', noisy, in_strip=number == 1))
        scores, labels = step.logits[0].float().sigmoid().max(-1)
        frames.append(
            BoxFrame(
                f'step {number} of {len(steps)}',
                _array(step.boxes[0]) * scale,
                _array(scores),
                _array(labels),
            )
        )
    return frames


def _picture(source: Path | Array, size_hw: tuple[int, int]) -> Array:
    from isda_suite.datasets.image_file import read_as_predicted

    image = read_as_predicted(str(source), size_hw) if isinstance(source, Path) else source
    return np.ascontiguousarray(image[..., ::-1])


def _array(tensor: Tensor) -> Array:
    array: Array = tensor.detach().float().cpu().numpy()
    return array


def _cut(picture: Array, like: Array) -> Array:
    """Cut a legend below a picture away, so that all panels have one size."""
    height, width = like.shape[:2]
    return picture[:height, :width]
