"""From queries and memory to the masks of instances over a clip, in bounded memory."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from isda_suite.layers.errors import ModelConfigError

from .box_attention import BoxAttention
from .clip_mask_head import ClipMaskHead
from .mask_head import MaskHead, SharedMaps


class MaskBranch(BaseModule):
    """Attention maps, a head per frame and a head over the clip: mask logits of every slot.

    Slots do not see each other here, so they are computed ``chunk_size`` at a time; in training
    what is inside of a chunk is computed again in the backward pass instead of being kept (except
    the last one's, with which that pass begins). The peak of memory then does not grow with the
    number of slots, while results and gradients stay the same. What depends on frames alone is
    computed once for all slots.

    **Masks of some slots.** A loss looks only at the masks of matched slots, and matching needs
    classes and boxes only. So match first and pass the matched slots as ``select``: the others have
    no gradient anyway, and time falls in proportion.

    Axes: B clips, K slots, T frames, C embed dims, (h, w) size of the memory, (h4, w4) of C2.

    Args:
        embed_dims: C, a multiple of 32; see ``num_groups`` for what else it must be.
        num_heads: M, heads and thereby maps of the box attention.
        in_channels: Channels of C2, C3 and C4.
        num_groups: Groups of the normalisations over a frame, of C + M, C/2, C/4, C/8 and C/16
            channels.
        num_clip_groups: Groups of the normalisations over the clip, of C/32 channels.
        chunk_size: Slots at a time; ``None`` for all of a clip.
        with_cp: Whether a chunk is computed again in the backward pass. Without it chunks bound
            the memory of inference only.
        init_cfg: Initialisation as everywhere in mmengine. The parts start as published: Kaiming
            for the head over frames, Xavier for the attention, zero offsets.

    Raises:
        ModelConfigError: if a number of channels is no multiple of what divides it, or
            ``chunk_size`` is not positive.

    Source: DefVisTR (arXiv:2203.06318); VisTR (arXiv:2011.14503), section 3.3.
    """

    def __init__(
        self,
        embed_dims: int = 384,
        num_heads: int = 8,
        in_channels: Sequence[int] = (256, 512, 1024),
        num_groups: int = 8,
        num_clip_groups: int = 4,
        chunk_size: int | None = 1,
        with_cp: bool = True,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if chunk_size is not None and chunk_size < 1:
            raise ModelConfigError(
                f'chunk_size: expected a positive number of slots or None for all, got {chunk_size}'
            )
        if len(in_channels) != 3:
            raise ModelConfigError(
                f'in_channels: expected the channels of C2, C3 and C4, got {tuple(in_channels)}'
            )
        self.chunk_size = chunk_size
        self.with_cp = with_cp
        self.bbox_attention = BoxAttention(embed_dims, num_heads)
        self.mask_head = MaskHead(embed_dims, num_heads, in_channels, num_groups)
        self.insmask_head = ClipMaskHead(embed_dims, num_clip_groups)

    def forward(
        self,
        queries: Tensor,
        memory: Tensor,
        feats: Sequence[Tensor],
        padding_mask: Tensor,
        select: Tensor | None = None,
    ) -> Tensor:
        """Compute mask logits.

        Args:
            queries: (B, K, T, C), the last decoder layer's output after the final norm.
            memory: (B, T, C, h, w), the encoder's output for the frames.
            feats: C2, C3, C4 of the backbone, each (B * T, ·, ·, ·).
            padding_mask: (B, T, h, w) bool, True where a frame is padding.
            select: (N, 2) int64 rows (b, k), the slots whose masks are wanted, in this order; rows
                of a clip that follow each other share its chunks. ``None`` for all.

        Returns:
            (B, K, T, h4, w4) logits, or (N, T, h4, w4) with ``select``; float32 at least. With
            N = 0 every parameter still takes part in the backward pass, as distributed training
            needs.
        """
        b, k, t, _ = queries.shape
        every = [(clip, list(range(k))) for clip in range(b)]
        runs = every if select is None else _runs_of(select)
        levels = [feat.view(b, t, *feat.shape[1:]) for feat in feats]
        clips = [memory.unbind(), padding_mask.unbind(), *(level.unbind() for level in levels)]
        shared: dict[int, tuple[Tensor, Tensor, SharedMaps]] = {}
        chunks = list(self._split(runs or [(0, [])]))
        masks = []
        for number, (clip, slots) in enumerate(chunks, 1):
            if clip not in shared:
                m, padding, *c234 = (parts[clip] for parts in clips)
                frames = self.mask_head.share(m, c234)
                shared[clip] = self.bbox_attention.keys(m), padding, frames
            # The backward pass begins with the last chunk: it need not be computed again.
            compute = self._recomputed if number < len(chunks) else self._masks
            keys, padding, frames = shared[clip]
            masks.append(compute(queries[clip, slots], keys, padding, *frames))
        joined = torch.cat(masks)
        return joined if select is not None else joined.view(b, k, *joined.shape[1:])

    def _split(self, runs: list[tuple[int, list[int]]]) -> Iterator[tuple[int, list[int]]]:
        """Cut the slots of each clip into chunks."""
        for clip, slots in runs:
            size = self.chunk_size or max(len(slots), 1)
            for start in range(0, max(len(slots), 1), size):
                yield clip, slots[start : start + size]

    def _masks(self, queries: Tensor, keys: Tensor, padding: Tensor, *shared: Tensor) -> Tensor:
        maps = self.bbox_attention.attend(queries, keys, padding)
        masks: Tensor = self.insmask_head(self.mask_head(maps, SharedMaps(*shared)))
        return masks

    def _recomputed(self, *args: Tensor) -> Tensor:
        if not (self.with_cp and torch.is_grad_enabled()):
            return self._masks(*args)
        # Nothing here is random, so no random state has to be kept.
        masks: Tensor = checkpoint(
            self._masks, *args, use_reentrant=False, preserve_rng_state=False
        )
        return masks


def _runs_of(select: Tensor) -> list[tuple[int, list[int]]]:
    """Split rows (b, k) where b changes: b and the slots of each run."""
    rows: list[list[int]] = select.tolist()
    return [(b, [k for _, k in run]) for b, run in groupby(rows, key=lambda row: row[0])]
