"""Made-up outputs and targets of clips."""

import torch

from isda_suite.methods.defvistr.targets import ClipTargets


def outputs(layers=2, clips=1, slots=4, frames=3, classes=5, seed=0):
    """Return cls_logits (N, B, K, T, classes + 2), boxes and mask_logits (B, K, T, 4, 6)."""
    generator = torch.Generator().manual_seed(seed)
    shape = (layers, clips, slots, frames)
    logits = torch.randn(*shape, classes + 2, generator=generator)
    boxes = torch.rand(*shape, 4, generator=generator) * 0.4 + 0.3
    masks = torch.randn(clips, slots, frames, 4, 6, generator=generator)
    return logits, boxes, masks


def targets(valid, labels=None, size_hw=(15, 22), seed=1):
    """Return the targets of one clip with random boxes and masks where ``valid`` (G, T)."""
    generator = torch.Generator().manual_seed(seed)
    valid = torch.as_tensor(valid, dtype=torch.bool).reshape(len(valid), -1)
    n, frames = valid.shape
    classes = torch.arange(n) if labels is None else torch.as_tensor(labels)
    boxes = torch.rand(n, frames, 4, generator=generator) * 0.4 + 0.3
    masks = torch.rand(n, frames, *size_hw, generator=generator) > 0.5
    return ClipTargets(
        labels=(classes[:, None] + 1) * valid,
        boxes=boxes * valid[..., None],
        valid=valid,
        masks=(masks & valid[..., None, None]).to(torch.uint8),
    )


def no_targets(frames=3, size_hw=(15, 22)):
    """Return the targets of a clip without instances."""
    return ClipTargets(
        labels=torch.zeros((0, frames), dtype=torch.long),
        boxes=torch.zeros(0, frames, 4),
        valid=torch.zeros((0, frames), dtype=torch.bool),
        masks=torch.zeros((0, frames, *size_hw), dtype=torch.uint8),
    )
