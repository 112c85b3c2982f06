"""Training steps of DefVisTR and of its rival, for ``benchmarks/defvistr.py``."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

VARIANTS = ('ours', 'eager', 'eager recomputing')
Step = Callable[[], Any]
# Relative, of float32: the largest difference of a loss, and of a gradient to the largest one.
TOLERANCE = 1e-4


def build_model(frames: int, dropout: float = 0.1) -> Any:
    """Build the released model for a number of frames, with random weights."""
    from mmengine.registry import init_default_scope

    import isda_suite.methods.defvistr
    from isda_suite.registry import MODELS

    assert isda_suite.methods.defvistr.DefVisTR
    init_default_scope('mmdet')
    torch.manual_seed(0)
    backbone = dict(
        type='ResNet',
        depth=50,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
        style='pytorch',
    )
    config = dict(
        type='isda_suite.DefVisTR',
        variant='instance_token',
        num_frames=frames,
        num_instances=8,
        backbone=backbone,
        transformer=dict(dropout=dropout),
        head=dict(type='isda_suite.DefVisTRHead', num_classes=40, mask_branch={}),
        train_cfg=dict(assigner=dict(type='isda_suite.SequenceHungarianAssigner')),
    )
    model: Any = MODELS.build(config)
    model.init_weights()
    # The first offsets are whole pixels: easy to sample, and there derivatives jump.
    torch.nn.init.normal_(model.head.mask_branch.mask_head.conv_offset.weight, std=0.05)
    for layer in model.encoder.layers:
        bias = layer.self_attn.sampling_offsets.bias
        bias.data.add_(torch.randn_like(bias), alpha=0.3)
    return model.train()


def make_clip(frames: int, size_hw: tuple[int, int]) -> Tensor:
    """Make a normalised clip (1, T, 3, H, W)."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn((1, frames, 3, *size_hw), generator=generator)


def make_sample(frames: int, size_hw: tuple[int, int], instances: int) -> Any:
    """Make a clip's ground truth: ellipses that move."""
    from mmdet.structures import DetDataSample, TrackDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    h, w = size_hw
    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing='ij')
    samples = []
    for t in range(frames):
        at = torch.arange(instances) / instances
        x, y = (0.2 + 0.6 * (at + 0.02 * t) % 0.8) * w, (0.3 + 0.4 * at) * h
        rx, ry = torch.full_like(x, w / 8), torch.full_like(y, h / 6)
        inside = ((columns - x[:, None, None]) / rx[:, None, None]) ** 2
        inside = inside + ((rows - y[:, None, None]) / ry[:, None, None]) ** 2 < 1
        gt = InstanceData(
            bboxes=torch.stack((x - rx, y - ry, x + rx, y + ry), -1),
            labels=torch.arange(instances) % 40,
            instances_ids=torch.arange(instances),
            masks=BitmapMasks(list(inside.byte().numpy()), h, w),
        )
        frame = DetDataSample(metainfo={'img_shape': size_hw, 'batch_input_shape': size_hw})
        frame.gt_instances = gt
        samples.append(frame)
    return TrackDataSample(video_data_samples=samples)


def losses_of(
    variant: str, frames: int, dropout: float = 0.1
) -> tuple[Any, Callable[[Tensor, Any], dict[str, Tensor]]]:
    """Return a model and the function from a clip and its ground truth to losses."""
    from benchmarks.rivals.defvistr_eager import with_weights_of
    from isda_suite.methods.defvistr.loss import sequence_losses
    from isda_suite.methods.defvistr.matching import SequenceHungarianAssigner
    from isda_suite.methods.defvistr.targets import clip_targets

    model = build_model(frames, dropout)
    if variant == 'ours':
        return model, lambda clip, sample: model.loss(clip, [sample])
    rival = with_weights_of(model, dropout=dropout, recompute=variant != 'eager').train()
    assigner = SequenceHungarianAssigner()

    def losses(clip: Tensor, sample: Any) -> dict[str, Tensor]:
        return sequence_losses(*rival(clip[0]), [clip_targets(sample)], assigner)

    return rival, losses


def total(losses: dict[str, Tensor]) -> Tensor:
    """Add up the terms that are trained."""
    return torch.stack([value for name, value in losses.items() if 'loss' in name]).sum()


def make_step(variant: str, frames: int) -> Callable[[Tensor, Any], float]:
    """Return the function that trains a step."""
    model, losses = losses_of(variant, frames)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-5, weight_decay=1e-4)

    def step(clip: Tensor, sample: Any) -> float:
        loss = total(losses(clip, sample))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, 0.1)
        optimiser.step()
        optimiser.zero_grad()
        return loss.item()

    return step


def require_equal_steps(frames: int = 4, size_hw: tuple[int, int] = (75, 107)) -> dict[str, float]:
    """Refuse to time a step that computes something else.

    Returns:
        The largest relative differences of losses and gradients.

    Raises:
        SystemExit: if one is too large.
    """
    from isda_suite.checkpoint.renaming import convert_state_dict
    from isda_suite.methods.defvistr.convert import ORIGINAL

    clip, sample = make_clip(frames, size_hw), make_sample(frames, size_hw, 3)
    found = {}
    for variant in VARIANTS[:2]:
        model, losses = losses_of(variant, frames, dropout=0.0)
        by_name = losses(clip, sample)
        total(by_name).backward()  # type: ignore[no-untyped-call]
        grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        grads = grads if variant == 'ours' else convert_state_dict(grads, ORIGINAL)[0]
        found[variant] = by_name, grads
    (ours, our_grads), (theirs, their_grads) = found.values()
    if set(ours) != set(theirs) or set(our_grads) != set(their_grads):
        raise SystemExit('the losses or the trained parameters have other names; nothing was timed')
    terms = [(ours[n].item(), theirs[n].item()) for n in ours]
    loss = max(abs(a - b) / max(abs(b), 1e-6) for a, b in terms)
    largest = max(float(g.norm()) for g in their_grads.values())
    grad = max(float((our_grads[n] - their_grads[n]).norm()) / largest for n in our_grads)
    if not (loss < TOLERANCE and grad < TOLERANCE):
        raise SystemExit(f'losses differ by {loss:.2g}, gradients by {grad:.2g}; nothing was timed')
    return {'losses': loss, 'gradients': grad}


def mask_step(slots: int, frames: int, size_hw: tuple[int, int]) -> Step:
    """Return forward and backward of the mask branch with the masks of so many slots."""
    from isda_suite.methods.defvistr.mask_branch import MaskBranch

    branch, t = MaskBranch(), frames
    sizes = [[-(-side // stride) for side in size_hw] for stride in (4, 8, 16, 32)]
    feats = [torch.randn(t, c, *s) for c, s in zip((256, 512, 1024), sizes, strict=False)]
    memory = torch.randn(1, t, 384, *sizes[3], requires_grad=True)
    queries = torch.randn(1, slots, t, 384)
    padding = torch.zeros(1, t, *sizes[3], dtype=torch.bool)

    def step() -> None:
        branch(queries, memory, feats, padding).square().mean().backward()
        branch.zero_grad()

    return step
