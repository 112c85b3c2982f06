"""DefVisTR, the model: backbone, encoder of a clip, decoder, head; and its two relatives."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models.mot import BaseMOTModel
from mmdet.structures import TrackDataSample
from mmengine.structures import InstanceData
from torch import Tensor, nn

from isda_suite.checkpoint.load import ShapeMismatch
from isda_suite.layers.errors import ModelConfigError
from isda_suite.registry import MODELS

from .checkpoint_fit import explain_clip_length
from .decoder import SlotDecoder, frames_to_instances, slots_to_instances
from .encoder import DenseClipEncoder, FramesAsLevelsEncoder
from .head import EXTRA_LOGITS
from .linking import ClipLinker
from .options import VARIANTS, TransformerOptions, check_variant
from .position_encoding import encode_clip, encode_grid


@MODELS.register_module()
class DefVisTR(BaseMOTModel):
    """Video instance segmentation of a whole clip in one pass, without a tracker.

    Every instance gets one class distribution, box and mask per frame; who is who over time is
    given by the position in the output. ``variant`` chooses one of three models:

    ==================  =====================  ==================================================
    ``variant``         encoder                decoder
    ==================  =====================  ==================================================
    ``instance_token``  deformable, T levels   T queries for each of K slots, which have tokens
                        and a grid of tokens   of their own (the published code)
    ``frame_query``     deformable, T levels   K queries for each frame (the paper's text)
    ``vistr``           dense                  K queries for each frame (the baseline)
    ==================  =====================  ==================================================

    Axes: B clips, T frames, K instances, C channels, N decoder layers, (h, w) the map at stride
    32, S = T·h·w.

    Args:
        variant: One of the three.
        num_frames: T, the length of a clip. It is part of the weights.
        num_instances: K, how many instances a clip can have: slots, or queries of a frame.
        num_queries: Rows of the table of queries, for configs that state it: T with slots, T·K
            without. ``None`` takes that number.
        query_layout: ``'instance_major'`` or, for weights of the published code,
            ``'interleaved'``, see :func:`.decoder.slots_to_instances`; ``instance_token`` only.
        backbone: Config of a backbone with maps at strides 4, 8, 16 and 32.
        transformer: Sizes that differ from the published ones, see
            :class:`.options.TransformerOptions`.
        head: Config of :class:`.head.DefVisTRHead`.
        train_cfg: See :class:`.head.DefVisTRHead`.
        test_cfg: See there.
        data_preprocessor: Config of mmdet's ``TrackDataPreprocessor``.
        init_cfg: As everywhere in mmengine.

    Raises:
        ModelConfigError: for an unknown word, a number that cannot be, or options of another
            variant.

    Source: DefVisTR (arXiv:2203.06318); VisTR (arXiv:2011.14503).
    """

    def __init__(
        self,
        backbone: dict[str, Any],
        head: dict[str, Any],
        variant: str = 'instance_token',
        num_frames: int = 36,
        num_instances: int = 8,
        num_queries: int | None = None,
        query_layout: str = 'instance_major',
        transformer: dict[str, Any] | None = None,
        train_cfg: dict[str, Any] | None = None,
        test_cfg: dict[str, Any] | None = None,
        data_preprocessor: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        options = TransformerOptions.of(transformer)
        check_variant(variant, num_frames, num_instances, num_queries, query_layout)
        self.variant = VARIANTS[variant]
        self.num_frames = num_frames
        self.num_instances = num_instances
        self.query_layout = query_layout
        self.embed_dims = options.embed_dims
        self.backbone = MODELS.build(backbone)
        self.input_proj = nn.Conv2d(options.in_channels, options.embed_dims, 1)
        grid = (num_instances, options.tokens_per_instance) if self.variant.slots else None
        self.encoder = (
            FramesAsLevelsEncoder(options, num_frames, grid)
            if self.variant.deformable
            else DenseClipEncoder(options)
        )
        self.decoder = SlotDecoder(options, *(grid or (1, 0)))
        self.instance_tokens = None
        if grid is not None:
            self.instance_tokens = nn.Embedding(grid[0] * grid[1], options.embed_dims)
            nn.init.xavier_uniform_(self.instance_tokens.weight)
        self.query_embedding = nn.Embedding(self._table_size(), options.embed_dims)
        sizes = dict(embed_dims=options.embed_dims, num_heads=options.num_heads)
        cfgs = dict(train_cfg=train_cfg, test_cfg=test_cfg)
        self.head = MODELS.build({**sizes, **cfgs, **head})
        self.num_classes = self.head.num_classes

    def _table_size(self) -> int:
        return self.num_frames * (1 if self.variant.slots else self.num_instances)

    extra_class_outputs = EXTRA_LOGITS

    def explain_mismatches(self, mismatched: list[ShapeMismatch]) -> str:
        """Say more about shapes of a checkpoint that differ: it may be for another clip length."""
        return explain_clip_length(mismatched, self)

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Compute the backbone's maps of all frames.

        Args:
            inputs: (B, T, 3, H, W), normalised.

        Returns:
            Four maps (B * T, ·, H / s, W / s) for strides s = 4, 8, 16, 32, rounded up.

        Raises:
            ModelConfigError: if the clips have another length than the model.
        """
        if inputs.dim() != 5 or inputs.shape[1] != self.num_frames:
            raise ModelConfigError(
                f'inputs: expected clips (B, {self.num_frames}, 3, H, W), got shape '
                f'{tuple(inputs.shape)}; the clip length is num_frames of the model and part of '
                'its weights: sample clips of that many frames, or change num_frames and convert '
                'the checkpoint with tools/convert_checkpoint.py --method defvistr --config CONFIG'
            )
        feats: tuple[Tensor, ...] = self.backbone(inputs.flatten(0, 1))
        return feats

    def forward_transformer(
        self, feats: Sequence[Tensor], padding_mask: Tensor, padded: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Run encoder and decoder.

        Args:
            feats: The backbone's maps; the last, (B * T, ·, h, w), is used.
            padding_mask: (B, T, h, w) bool, True where a frame is padding.
            padded: Whether anything is padding.

        Returns:
            The queries of all layers (N, B, K, T, C) and the memory of the frames
            (B, T, C, h, w).
        """
        memory, position = self.encode(feats, padding_mask, padded)
        hidden = padding_mask.flatten(1) if padded else None
        output = self.decoder(self.query_embedding.weight, memory, position, hidden)
        if self.variant.slots:
            output = slots_to_instances(output, self.num_frames, self.query_layout)
        else:
            output = frames_to_instances(output, self.num_frames)
        b, t, h, w = padding_mask.shape
        frames = memory[:, : t * h * w].reshape(b, t, h, w, -1).permute(0, 1, 4, 2, 3)
        return output, frames

    def encode(
        self, feats: Sequence[Tensor], padding_mask: Tensor, padded: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Run the encoder on the tokens of all frames and, with slots, the instance tokens.

        Args:
            feats: As for :meth:`forward_transformer`, like the others.
            padding_mask: See there.
            padded: See there.

        Returns:
            Memory and position encoding, both (B, S + tokens, C), frames first.
        """
        b, t = padding_mask.shape[:2]
        tokens = _as_tokens(self.input_proj(feats[-1]).unflatten(0, (b, t)))
        position = _as_tokens(encode_clip(padding_mask, self.embed_dims))
        if self.instance_tokens is not None:
            rows, columns = self.num_instances, self.decoder.tokens_per_slot
            own = self.instance_tokens.weight.expand(b, -1, -1)
            grid = encode_grid(rows, columns, self.embed_dims, tokens.device)
            tokens = torch.cat((tokens, own.to(tokens.dtype)), 1)
            position = torch.cat((position, grid.expand(b, -1, -1)), 1)
        return self.encoder(tokens, position, padding_mask, padded), position

    def _run(
        self, inputs: Tensor, data_samples: Sequence[TrackDataSample] | None
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...], Tensor]:
        """Return what the head needs: queries, memory, maps of the backbone, padding."""
        feats = self.extract_feat(inputs)
        b, t, _, *size_hw = inputs.shape
        sizes = _frame_sizes(data_samples, (b, t), (size_hw[0], size_hw[1]))
        padding_mask, padded = _padding(sizes, (size_hw[0], size_hw[1]), feats[-1])
        hidden, memory = self.forward_transformer(feats, padding_mask, padded)
        return hidden, memory, feats, padding_mask

    def _forward(
        self, inputs: Tensor, data_samples: Sequence[TrackDataSample] | None = None, **kwargs: Any
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Compute the raw outputs.

        Args:
            inputs: (B, T, 3, H, W), normalised.
            data_samples: B clips whose frames have ``img_shape`` in their metainfo; ``None`` means
                that no frame is padded.
            **kwargs: Ignored.

        Returns:
            Class logits (N, B, K, T, num_classes + 2), boxes (N, B, K, T, 4) as relative (cx, cy,
            w, h), and mask logits (B, K, T, H / 4, W / 4) of the last layer or ``None``.
        """
        state = self._run(inputs, data_samples)
        return (*self.head(state[0]), self.head.masks(*state))

    def loss(
        self, inputs: Tensor, data_samples: Sequence[TrackDataSample], **kwargs: Any
    ) -> dict[str, Tensor]:
        """Compute the losses of B clips; arguments as for :meth:`_forward`, with ground truth."""
        losses: dict[str, Tensor] = self.head.loss(*self._run(inputs, data_samples), data_samples)
        return losses

    def predict(
        self, inputs: Tensor, data_samples: Sequence[TrackDataSample], **kwargs: Any
    ) -> list[TrackDataSample]:
        """Predict the tracks of videos that come clip by clip.

        Args:
            inputs: (B, T, 3, H, W), clips of videos in their order.
            data_samples: The clips, see :meth:`.whole_video.VideoTracks.push`.
            **kwargs: Ignored.

        Returns:
            B samples; that of a video's last clip holds its tracks.
        """
        hidden, *state = self._run(inputs, data_samples)
        # Auxiliary layers have no part in results.
        found: list[TrackDataSample] = self.head.predict(hidden[-1:], *state, data_samples)
        return found

    def predict_clips(
        self, inputs: Tensor, data_samples: Sequence[TrackDataSample]
    ) -> list[InstanceData]:
        """Predict clips on their own, for a caller that links them with :meth:`clip_linker`.

        Arguments as for :meth:`predict`, in any order.

        Returns:
            B times what :func:`.postprocess.clip_tracks` gives.
        """
        hidden, *state = self._run(inputs, data_samples)
        found: list[InstanceData] = self.head.predict_clips(hidden[-1:], *state, data_samples)
        return found

    def clip_linker(self, overlap: int, keep_tracks: bool = True) -> ClipLinker:
        """Make a linker for the clips of a video, with the options of ``test_cfg``.

        Args:
            overlap: Frames that clips share.
            keep_tracks: See :class:`.linking.ClipLinker`.
        """
        linker: ClipLinker = self.head.video_tracks.new_linker(overlap, keep_tracks)
        return linker


def _as_tokens(maps: Tensor) -> Tensor:
    """Turn (B, T, C, h, w) into (B, T·h·w, C)."""
    return maps.permute(0, 1, 3, 4, 2).flatten(1, 3)


def _frame_sizes(
    data_samples: Sequence[TrackDataSample] | None,
    clips_frames: tuple[int, int],
    size_hw: tuple[int, int],
) -> list[list[tuple[int, int]]]:
    """List the size of every frame without padding."""
    b, t = clips_frames
    if data_samples is None:
        return [[size_hw] * t] * b
    sizes = [[tuple(frame.img_shape[:2]) for frame in s.video_data_samples] for s in data_samples]
    found = [len(clip) for clip in sizes]
    if found != [t] * b:
        raise ModelConfigError(
            f'data_samples: expected {b} clips of {t} frames like the inputs, got {found} frames'
        )
    return sizes


def _padding(
    sizes: list[list[tuple[int, int]]], size_hw: tuple[int, int], coarse: Tensor
) -> tuple[Tensor, bool]:
    """Mark padding at the cells of a map, by the nearest pixel: (B, T, h, w), and whether any is.

    A mask of the input's size is a product of rows and columns, and so is what is sampled of it.
    """
    axes = []
    for axis in (0, 1):
        ends = coarse.new_tensor([[size[axis] for size in clip] for clip in sizes])
        inside = torch.arange(size_hw[axis], device=coarse.device) < ends[..., None]
        axes.append(F.interpolate(inside.float(), coarse.shape[axis - 2], mode='nearest').bool())
    padded = any(size != size_hw for clip in sizes for size in clip)
    return ~(axes[0][..., :, None] & axes[1][..., None, :]), padded
