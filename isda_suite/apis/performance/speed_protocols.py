"""What a measurement of speed times: protocols, settings, and the function between the clocks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from isda_suite.apis.videos.clip_pipeline import clip_length, describe_clip
from isda_suite.apis.videos.clips import Clip
from isda_suite.compat.warning_filters import quiet_imports
from isda_suite.engine.errors import ConfigError

from .fast_inference import InferenceSteps

Size = tuple[int, int]


class Protocol(NamedTuple):
    """A way of measuring.

    Attributes:
        timed: What is inside the timed region.
        warmup: Passes before the clock starts.
        iters: Timed passes.
        fps_of_mean: Whether images per second come from the mean time, not from the median.
    """

    timed: str
    warmup: int = 5
    iters: int = 30
    fps_of_mean: bool = False


PROTOCOLS = {
    'network': Protocol('normalised batch on the device to raw outputs, without post-processing'),
    'model': Protocol('normalised batch on the device to final results on the device'),
    'end-to-end': Protocol(
        '8-bit images in host memory to final results in host memory: transfer, normalisation, '
        'padding, network, post-processing, transfer back'
    ),
    'full': Protocol(
        '8-bit images in host memory to label maps in host memory: transfer, normalisation, '
        'padding, network, enlargement, arg-max, transfer back'
    ),
    'paper': Protocol(
        "the speed script of ISDNet's authors: noise of 0.8 times the size, its sides swapped, on "
        'the device to logits at that size, no soft-max, arg-max or resizing to the image; images '
        'per second are passes by the sum of their times',
        warmup=100,
        iters=300,
        fps_of_mean=True,
    ),
}
"""By the name users choose them by."""

_PAPER_SCALE = 0.8


@dataclass(frozen=True)
class SpeedSettings:
    """What to measure.

    Args:
        height: Height of the images in pixels, before the padding of the data preprocessor.
        width: Their width.
        batch_size: Images per pass, or clips of a video model, which says itself how many frames
            they have; 1 for the protocol ``paper``.
        protocol: One of :data:`PROTOCOLS`; ``full`` and ``paper`` are for segmentors.
        amp_dtype: As in :class:`.fast_inference.InferenceSteps`.
        compiled: As there.
        fused: As there.
        channels_last: As there.
        warmup: Passes before the clock starts; they also compile. ``None``: the protocol's.
        iters: Timed passes. ``None``: the protocol's.
        seed: Seed of the images and of random weights.

    Raises:
        ConfigError: if a value is out of range.
    """

    height: int
    width: int
    batch_size: int = 1
    protocol: str = 'model'
    amp_dtype: str | None = None
    compiled: bool = False
    fused: bool = False
    channels_last: bool = False
    warmup: int | None = None
    iters: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values, and fill in what the protocol says."""
        if self.protocol not in PROTOCOLS:
            raise ConfigError(
                f'protocol must be one of {", ".join(PROTOCOLS)}, got {self.protocol!r}'
            )
        for name in ('warmup', 'iters'):
            if getattr(self, name) is None:
                object.__setattr__(self, name, getattr(PROTOCOLS[self.protocol], name))
        for name in ('height', 'width', 'batch_size', 'iters'):
            if getattr(self, name) < 1:
                raise ConfigError(f'{name} must be at least 1, got {getattr(self, name)}')
        if self.passes[0] < 0:
            raise ConfigError(f'warmup must not be negative, got {self.warmup}')
        if self.protocol == 'paper' and self.batch_size != 1:
            raise ConfigError(f"batch_size of protocol 'paper' is 1, got {self.batch_size}")
        _ = self.steps  # checks amp_dtype

    @property
    def steps(self) -> InferenceSteps:
        """What is done to the model beforehand."""
        return InferenceSteps(self.fused, self.channels_last, self.amp_dtype, self.compiled)

    @property
    def passes(self) -> tuple[int, int]:
        """Untimed and timed passes."""
        return self.warmup or 0, self.iters or 1


class Step(NamedTuple):
    """What is timed.

    Attributes:
        run: One pass.
        input_hw: Height and width that the network sees.
        clip_len: Frames of a clip; ``None`` for a model of images.
    """

    run: Callable[[], Any]
    input_hw: Size
    clip_len: int | None = None


def prepare_step(model: nn.Module, settings: SpeedSettings) -> Step:
    """Make the function to time.

    Args:
        model: In evaluation mode, with ``cfg``.
        settings: What to measure.

    Raises:
        ConfigError: if the protocol is one for segmentors and the model is none.
    """
    if settings.protocol in ('full', 'paper') and not hasattr(model, 'encode_decode'):
        raise ConfigError(
            f'protocol {settings.protocol!r} is for segmentors of mmseg, {type(model).__name__} '
            'has no encode_decode: use network, model or end-to-end'
        )
    if settings.protocol == 'paper':
        return _paper_step(model, settings)
    return _whole_step(model, settings)


def _paper_step(model: Any, settings: SpeedSettings) -> Step:
    # The authors' script takes the width for the height.
    input_hw = int(settings.width * _PAPER_SCALE), int(settings.height * _PAPER_SCALE)
    generator = torch.Generator().manual_seed(settings.seed)
    noise = torch.randn((1, 3, *input_hw), generator=generator)
    inputs = noise.to(next(model.parameters()).device)
    meta = dict(
        img_shape=input_hw, ori_shape=input_hw, pad_shape=input_hw, padding_size=[0, 0, 0, 0]
    )
    return Step(lambda: model.encode_decode(inputs, [meta]), input_hw)


def _whole_step(model: Any, settings: SpeedSettings) -> Step:
    clip_len = clip_length(model)
    images = _images(settings, clip_len)
    preprocess = model.data_preprocessor

    def prepare() -> tuple[Tensor, Any]:
        samples = [blank_sample(model, settings.height, settings.width, clip_len) for _ in images]
        batch = preprocess(dict(inputs=list(images), data_samples=samples), False)
        return batch['inputs'], batch['data_samples']

    inputs, prepared = prepare()

    def from_host() -> Any:
        return model.forward(*prepare(), mode='predict')

    steps: dict[str, Callable[[], Any]] = {
        'network': lambda: model(inputs, prepared, mode='tensor'),
        'model': lambda: model.forward(inputs, prepared, mode='predict'),
        'end-to-end': lambda: [result.cpu() for result in from_host()],
        'full': lambda: [result.pred_sem_seg.data.cpu() for result in from_host()],
    }
    run = steps[settings.protocol]
    return Step(run, (inputs.shape[-2], inputs.shape[-1]), clip_len)


def _images(settings: SpeedSettings, clip_len: int | None) -> list[Tensor]:
    """Make noise: (3, H, W) each, or (T, 3, H, W)."""
    generator = torch.Generator().manual_seed(settings.seed)
    frames = () if clip_len is None else (clip_len,)
    shape = (*frames, 3, settings.height, settings.width)
    return [
        torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        for _ in range(settings.batch_size)
    ]


def blank_sample(model: Any, height: int, width: int, clip_len: int | None) -> Any:
    """Make the data sample of an image, or of a video of one clip, that no pipeline has resized.

    Args:
        model: With ``cfg``.
        height: Pixels of the image.
        width: Likewise.
        clip_len: Frames of the clip; ``None`` for an image.
    """
    meta = dict(
        img_shape=(height, width),
        ori_shape=(height, width),
        pad_shape=(height, width),
        scale_factor=(1.0, 1.0),
        flip=False,
        img_id=0,
    )
    with quiet_imports():
        if model.cfg.get('default_scope') == 'mmseg':
            from mmseg.structures import SegDataSample as Sample
        else:
            from mmdet.structures import DetDataSample as Sample
            from mmdet.structures import TrackDataSample
    if clip_len is None:
        return Sample(metainfo=meta)
    whole = Clip([None] * clip_len, list(range(clip_len)), clip_len, is_last=True)
    clip = TrackDataSample(metainfo=meta | describe_clip(whole) | dict(video_id=0))
    clip.video_data_samples = [Sample(metainfo=meta) for _ in range(clip_len)]
    return clip
