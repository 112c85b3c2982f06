"""What the published Mask2Former code computed: queries look for instances of other images.

This is the opposite of what the paper says, and stays as a mode to compare with.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from isda_suite.layers.errors import ModelConfigError
from isda_suite.registry import TASK_UTILS

from .step import Step


@TASK_UTILS.register_module()
class Retrieval:
    """Send the queries of each stage once through it with the features of the previous batch.

    The masks they give are matched to the *previous* batch's ground truth and trained with the
    head's own BCE and dice. The first step has no previous batch and takes its own.

    Args:
        loss: Takes no options; the head's own losses are used.
        last_weight: Factor of the terms of the last stage.
        stage_weight: Factor of the terms of stage d is (d + 1) times this.

    Raises:
        ModelConfigError: for options of the loss, or in the first step of another head.

    Source: the published Mask2Former code of IUQ.
    """

    def __init__(
        self,
        loss: Mapping[str, Any],
        last_weight: float = 1 / 3,
        stage_weight: float = 1 / 50,
    ) -> None:
        if loss:
            raise ModelConfigError(f'uniqueness: Retrieval takes no options, got {dict(loss)}')
        self.last_weight = last_weight
        self.stage_weight = stage_weight
        self.features: list[Tensor] | None = None
        self.samples: Sequence[Any] = ()

    def __call__(self, step: Step) -> dict[str, Any]:
        """Compute ``loss_mask_contrast``, ``d0.loss_dice_contrast`` and so on."""
        batch = step.records[0].context.get('batch')
        if batch is None:
            raise ModelConfigError(
                'memory.type: Retrieval works with the stages of Mask2FormerHead, found '
                f'{type(step.adapter.head).__name__}: use isda_suite.PixelMemory'
            )
        own = [x.detach() for x in batch['features']]
        # A smaller or larger batch has nobody to be compared with; the published code stops there.
        if self.features is None or len(self.features[0]) != len(own[0]):
            self.features, self.samples = own, step.samples
        head = step.adapter.head
        logits, masks = other_stages(head, batch['stages'], self.features)
        losses = head.loss_by_feat(
            logits,
            masks,
            head.preprocess_gt([s.gt_instances for s in self.samples], _semantics(self.samples)),
            [sample.metainfo for sample in self.samples],
        )
        self.features, self.samples = own, step.samples
        return {
            f'{name}_contrast': value * self._weight_of(name)
            for name, value in losses.items()
            if not name.endswith('loss_cls')
        }

    def _weight_of(self, name: str) -> float:
        stage, dot, _ = name.partition('.')
        return (int(stage.removeprefix('d')) + 1) * self.stage_weight if dot else self.last_weight


def _semantics(samples: Sequence[Any]) -> list[Any]:
    return [sample.gt_sem_seg if 'gt_sem_seg' in sample else None for sample in samples]


def other_stages(
    head: Any, stages: list[Tensor], features: list[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """Send queries through their stage with the features of other images.

    Args:
        head: mmdet's ``Mask2FormerHead``.
        stages: The queries (B, Q, C) before the first layer and after each one.
        features: The backbone's maps of the other images; the pixel decoder works without
            gradient on them.

    Returns:
        For each stage class logits (B, Q, classes) and mask logits (B, Q, h, w). Each attends
        where the mask of the stage before, on the other images, is positive.
    """
    with torch.no_grad():
        pixels, memories = head.pixel_decoder(features)
        inputs, positions = _decoder_inputs(head, memories)
    embed = head.query_embed.weight.expand(len(pixels), -1, -1)
    sizes = [memory.shape[-2:] for memory in memories]
    logits, masks, attention = head._forward_head(stages[0], pixels, sizes[0])
    found = [(logits, masks)]
    for i, layer in enumerate(head.transformer_decoder.layers):
        level = i % head.num_transformer_feat_level
        # A query that may look nowhere looks everywhere.
        attention = attention & (attention.sum(-1) != attention.shape[-1])[..., None]
        queries = layer(
            query=stages[i + 1],
            key=inputs[level],
            value=inputs[level],
            query_pos=embed,
            key_pos=positions[level],
            cross_attn_mask=attention,
            query_key_padding_mask=None,
            key_padding_mask=None,
        )
        after = sizes[(i + 1) % head.num_transformer_feat_level]
        logits, masks, attention = head._forward_head(queries, pixels, after)
        found.append((logits, masks))
    return [one for one, _ in found], [one for _, one in found]


def _decoder_inputs(head: Any, memories: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Flatten the maps and their positions as the head's forward pass does."""
    inputs, positions = [], []
    for i, memory in enumerate(memories[: head.num_transformer_feat_level]):
        projected = head.decoder_input_projs[i](memory).flatten(2).permute(0, 2, 1)
        inputs.append(projected + head.level_embed.weight[i].view(1, 1, -1))
        nowhere = memory.new_zeros((len(memory), *memory.shape[-2:]), dtype=torch.bool)
        positions.append(head.decoder_positional_encoding(nowhere).flatten(2).permute(0, 2, 1))
    return inputs, positions
