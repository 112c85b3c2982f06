"""Where DefVisTR looks in the frames of a clip: its decoder's maps, its encoder's points."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from numpy.typing import NDArray

from isda_suite.apis.videos.clip_pipeline import ClipPipeline
from isda_suite.apis.videos.clips import Clip, cut_clips
from isda_suite.apis.videos.source import open_video
from isda_suite.engine.errors import ConfigError
from isda_suite.visualization.attention import draw_points, draw_weights
from isda_suite.visualization.colours import class_colours
from isda_suite.visualization.pictures import contact_sheet, save_picture, with_caption

from .attention import AttentionSettings, to_pixels, token_at
from .attention_record import (
    choose_layer,
    deformable_layers,
    dense_weights,
    recorded,
    recorded_inputs,
)

Array = NDArray[Any]
_COLUMNS, _CELL = 4, 420


class _Clip:
    """The first clip of a video and what the model says of it."""

    def __init__(self, model: Any, source: str | Path) -> None:
        frames: Clip[Array] = next(cut_clips(open_video(source), model.num_frames, 0))
        self.model = model
        self.images = [np.ascontiguousarray(frame[..., ::-1]) for frame in frames.frames]
        self.numbers, self.num_valid = frames.numbers, frames.num_valid
        batch = pseudo_collate([ClipPipeline(model.cfg)(frames, 1)])
        self._data = model.data_preprocessor(batch, False)
        self.meta: dict[str, Any] = {}

    def run(self) -> None:
        """Run the model; what it gives is kept, instances best first."""
        inputs, samples = self._data['inputs'], self._data['data_samples']
        with torch.no_grad():
            logits, _, masks = self.model.forward(inputs, samples, mode='tensor')
        self.meta = {
            'batch_input_shape': tuple(inputs.shape[-2:]),
            'img_shape': tuple(samples[0][0].img_shape[:2]),
            'ori_shape': self.images[0].shape[:2],
        }
        # The first logit is "not in this frame", the last "no object".
        scores = logits[-1, 0].float().softmax(-1)[..., 1:-1]
        self.scores, self.labels = (value.cpu() for value in scores.max(-1))  # (K, T)
        self.order = self.scores.mean(1).argsort(descending=True).tolist()
        self.masks = None if masks is None else masks[0].float().cpu()

    def mask(self, instance: int, frame: int) -> Array | None:
        """Return the mask of an instance in a frame, at the size of the frame."""
        if self.masks is None:
            return None
        logits = self.masks[instance, frame].numpy()
        padded, resized = self.meta['batch_input_shape'], self.meta['img_shape']
        whole = cv2.resize(logits, padded[::-1], interpolation=cv2.INTER_LINEAR)
        shown = np.ascontiguousarray(whole[: resized[0], : resized[1]])
        size = self.meta['ori_shape'][::-1]
        return np.asarray(cv2.resize(shown, size, interpolation=cv2.INTER_LINEAR)) > 0

    def name(self, instance: int) -> str:
        """Return what is said of an instance."""
        frame = int(self.scores[instance].argmax())
        label = int(self.labels[instance, frame])
        classes = self.model.dataset_meta.get('classes') or ()
        text = classes[label] if label < len(classes) else f'class {label}'
        return f'instance {instance}: {text} {float(self.scores[instance].mean()):.2f}'

    def sheet(self, pictures: list[Array]) -> Array:
        """Put the frames side by side, each under its number."""
        named = zip(self.numbers, pictures, strict=False)
        captioned = [with_caption(picture, f'frame {number}') for number, picture in named]
        return contact_sheet(captioned, columns=_COLUMNS, cell_width=_CELL)


def draw_clip_attention(
    model: Any, source: str | Path, out_dir: str | Path, settings: AttentionSettings
) -> list[Path]:
    """Draw where the instances of the first clip of a video look; see ``draw_attention``."""
    clip = _Clip(model, source)
    if settings.part == 'encoder':
        return _draw_encoder(clip, out_dir, settings)
    layers = list(model.decoder.layers)
    layer = choose_layer(layers, settings.layer, 'the decoder')
    with recorded_inputs(layer.cross_attn) as found:
        clip.run()
    where = f'decoder layer {layers.index(layer)} (of 0 to {len(layers) - 1})'
    written = []
    for instance in _chosen(clip, settings):
        rows = [_row(model, instance, frame) for frame in range(model.num_frames)]
        maps = dense_weights(layer.cross_attn, found.inputs, rows)  # (T, M, S)
        picture = _draw_maps(clip, maps, instance, settings)
        caption = f'{where}, {clip.name(instance)}: what the query of each frame looks at there'
        path = Path(out_dir) / f'instance{instance}_decoder.png'
        written.append(save_picture(path, with_caption(picture, caption)))
    return written


def _chosen(clip: _Clip, settings: AttentionSettings) -> list[int]:
    wrong = [one for one in settings.queries if not 0 <= one < len(clip.order)]
    if wrong:
        raise ConfigError(f'--query {wrong[0]}: there are {len(clip.order)} instances, from 0')
    return list(settings.queries or clip.order[: settings.num_best])


def _slot_and_query(model: Any, instance: int, frame: int) -> tuple[int, int]:
    """Return the slot, and the query in it, that stand for an instance in a frame."""
    if not model.variant.slots:
        return 0, frame * model.num_instances + instance
    if model.query_layout == 'instance_major':
        return instance, frame
    place = instance * model.num_frames + frame
    return place % model.num_instances, place // model.num_instances


def _row(model: Any, instance: int, frame: int) -> int:
    slot, query = _slot_and_query(model, instance, frame)
    return slot * model.num_frames + query if model.variant.slots else query


def _draw_maps(
    clip: _Clip, maps: torch.Tensor, instance: int, settings: AttentionSettings
) -> Array:
    """Draw what the query of each frame sees of that frame."""
    frames = clip.model.num_frames
    heads = _heads(settings, maps.shape[1])
    height, width = _map_size(clip, maps)
    some = maps[:, heads].mean(1)[:, : frames * height * width].view(-1, frames, height, width)
    own = some[torch.arange(frames), torch.arange(frames)].numpy()
    largest = float(own[: clip.num_valid].max())
    padded, resized = clip.meta['batch_input_shape'], clip.meta['img_shape']
    rows, columns = (
        max(1, round(size * inside / whole))
        for size, inside, whole in zip((height, width), resized, padded, strict=True)
    )
    pictures = [
        draw_weights(
            clip.images[frame], own[frame, :rows, :columns], largest, clip.mask(instance, frame)
        )
        for frame in range(clip.num_valid)
    ]
    return clip.sheet(pictures)


def _map_size(clip: _Clip, maps: torch.Tensor) -> tuple[int, int]:
    """Return (h, w) of the map at stride 32."""
    height, width = (-(-side // 32) for side in clip.meta['batch_input_shape'])
    if clip.model.num_frames * height * width > maps.shape[-1]:
        raise ConfigError('the memory of this model is no map of stride 32: nothing can be drawn')
    return height, width


def _heads(settings: AttentionSettings, count: int) -> list[int]:
    wrong = [head for head in settings.heads if not 0 <= head < count]
    if wrong:
        raise ConfigError(f'--heads {wrong[0]}: the layer has {count} heads, from 0')
    return list(settings.heads) or list(range(count))


def _draw_encoder(clip: _Clip, out_dir: str | Path, settings: AttentionSettings) -> list[Path]:
    """Draw what the tokens of instances, or the token at a place, sample of all frames."""
    model = clip.model
    layers = deformable_layers(model, 'encoder')
    layer = choose_layer(layers, settings.layer, 'deformable attention of the encoder')
    with recorded(layer) as found:
        clip.run()
    points = found.points
    if points is None:
        raise ConfigError('the encoder was not used in this forward pass')
    where = f'encoder layer {layers.index(layer)} (of 0 to {len(layers) - 1})'
    heads = _heads(settings, points.weights.shape[1])
    jobs: list[tuple[str, str, list[int], int | None]] = []
    if settings.at is not None:
        token = token_at(points, settings.at, clip.meta, settings.level)
        text = f'token at ({settings.at[0]:g}, {settings.at[1]:g}) of frame {settings.level}'
        jobs.append(('token', text, [token], None))
    elif not model.variant.slots:
        raise ConfigError('this variant has no tokens of instances: give a place, --at X Y')
    else:
        count = model.decoder.tokens_per_slot
        start = sum(h * w for h, w in points.shapes[: model.num_frames])
        for instance in _chosen(clip, settings):
            frame = int(clip.scores[instance].argmax())
            slot, _ = _slot_and_query(model, instance, frame)
            tokens = [start + slot * count + place for place in range(count)]
            text = f'{clip.name(instance)}: its {count} tokens (slot {slot})'
            jobs.append((f'instance{instance}', text, tokens, instance))
    written = []
    for name, text, tokens, owner in jobs:
        # (tokens, M, frames, P): the tokens of a slot look together.
        weights = points.weights[tokens][:, heads, : model.num_frames] / len(tokens)
        locations = points.locations[tokens][:, heads, : model.num_frames]
        inside = float(weights.sum()) / len(heads)
        pictures = _draw_frames(clip, locations, weights, heads, owner, points.weights.shape[1])
        caption = f'{where}, {text}; {inside:.0%} of the weight lies in the frames'
        path = Path(out_dir) / f'{name}_encoder.png'
        written.append(save_picture(path, with_caption(clip.sheet(pictures), caption)))
    return written


def _draw_frames(
    clip: _Clip,
    locations: torch.Tensor,
    weights: torch.Tensor,
    heads: list[int],
    instance: int | None,
    num_heads: int,
) -> list[Array]:
    largest = float(weights.max())
    every = class_colours(num_heads)
    pictures = []
    for frame in range(clip.num_valid):
        where = to_pixels(locations[:, :, frame].transpose(0, 1).flatten(1, 2), clip.meta)
        values = weights[:, :, frame].transpose(0, 1).flatten(1).numpy()
        mask = None if instance is None else clip.mask(instance, frame)
        colours = [every[head] for head in heads]
        pictures.append(
            draw_points(clip.images[frame], where, values, None, mask, colours, largest)
        )
    return pictures
