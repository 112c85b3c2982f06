"""Side-by-side measurements of whole methods: ours against the named rival, same inputs.

    python benchmarks/methods.py --case attention   # ISDA training step, our attention or mmcv's
    python benchmarks/methods.py --case mask-loss   # matched masks only, or dice over all masks

Both variants run in one process in blocks A A A B B B, several times over; the ratio of the
medians is the claim, never a time. Peak memory is measured in a process of its own per variant,
because the high-water mark of a process never falls.
"""

import argparse
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# What the benchmarks share lies beside this file, in no package that is installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.side_by_side import (
    Row,
    add_arguments,
    in_own_process,
    measure_peak,
    ratios,
    report,
    take_turns,
)


def build_isda() -> Any:
    """Build the published ISDA with random weights."""
    from mmengine.registry import MODELS, init_default_scope

    from isda_suite.engine.config_file import read_config

    init_default_scope('mmdet')
    cfg = read_config('isda/isda_r50_3x_coco.py').model
    cfg.backbone.init_cfg = None
    logging.disable(logging.INFO)  # a line for every parameter that is initialised
    model = MODELS.build(cfg).train()
    model.init_weights()
    return model


def with_mmcv_attention(model: Any) -> Any:
    """Put mmcv's attention with the same weights in place of ours."""
    from mmcv.ops import MultiScaleDeformableAttention as Rival

    for part, name in ((model.encoder, 'self_attn'), (model.decoder, 'cross_attn')):
        for layer in part.layers:
            ours = getattr(layer, name)
            rival = Rival(
                ours.embed_dims, ours.num_heads, ours.num_levels, ours.num_points,
                dropout=ours.dropout.p, batch_first=True,
            )  # fmt: skip
            rival.load_state_dict(ours.state_dict())
            setattr(layer, name, rival)
    return model


def training_batch(size: int, batch: int, objects: int = 8) -> tuple[Any, list[Any]]:
    """Make random images with rectangular objects."""
    import numpy as np
    import torch
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    rng = np.random.RandomState(0)
    samples = []
    for _ in range(batch):
        masks = np.zeros((objects, size, size), np.uint8)
        for mask in masks:
            (y, x), (h, w) = rng.randint(0, size // 2, 2), rng.randint(16, size // 2, 2)
            mask[y : y + h, x : x + w] = 1
        sample = DetDataSample(
            metainfo={'batch_input_shape': (size, size), 'img_shape': (size, size)}
        )
        sample.gt_instances = InstanceData(
            labels=torch.from_numpy(rng.randint(0, 80, objects)),
            masks=BitmapMasks(masks, size, size),
        )
        samples.append(sample)
    return torch.from_numpy(rng.randn(batch, 3, size, size)).float(), samples


def attention_steps(size: int, batch: int) -> dict[str, Callable[[], float]]:
    """Return one training step (forward, loss, backward, AdamW) with either attention."""
    import torch

    images, samples = training_batch(size, batch)

    def step_of(model: Any) -> Callable[[], float]:
        parameters = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=1e-6)
        start = {name: value.clone() for name, value in model.state_dict().items()}

        def step() -> float:
            # The same weights and dropout every time, so that both do the same matching.
            model.load_state_dict(start)
            torch.manual_seed(0)
            optimizer.zero_grad()
            loss = torch.stack(list(model.loss(images, samples).values())).sum()
            loss.backward()
            optimizer.step()
            return float(loss)

        return step

    torch.manual_seed(0)
    ours = build_isda()
    torch.manual_seed(0)
    rival = with_mmcv_attention(build_isda())
    rival.load_state_dict(ours.state_dict())
    return {'ours': step_of(ours), 'mmcv': step_of(rival)}


def mask_loss_steps(size: int, batch: int) -> dict[str, Callable[[], float]]:
    """Return the loss of all layers with backward: matched masks, or dice over all masks."""
    import torch

    torch.manual_seed(0)
    head = build_isda().bbox_head
    _, samples = training_batch(size, batch)
    gts = [sample.gt_instances for sample in samples]
    cls_logits = torch.randn(6, batch, 300, 80).requires_grad_()
    kernels = (torch.randn(6, batch, 300, 256) / 8).requires_grad_()
    feature = torch.rand(batch, 256, size // 4, size // 4).requires_grad_()

    def matched() -> float:
        losses = head.loss_by_feat(cls_logits, kernels, feature, gts)
        total = torch.stack([v for k, v in losses.items() if k.endswith('loss_mask')]).sum()
        total.backward()
        return float(total)

    def all_masks() -> float:
        targets = [head.targets_of(gt, feature) for gt in gts]
        total = feature.new_zeros(())
        for layer in range(6):
            # What the original does: every mask is decoded once, matched, and kept for backward.
            masks = torch.einsum('bqc,bchw->bqhw', kernels[layer], feature).sigmoid()
            goal, weight = torch.zeros_like(masks), masks.new_zeros(masks.shape[:2])
            for i, match in enumerate(match_all(head, cls_logits[layer], masks, targets)):
                goal[i, match[0]] = targets[i].masks[match[1]]
                weight[i, match[0]] = 1
            total = total + head.loss_mask(
                masks.flatten(0, 1), goal.flatten(0, 1), weight.flatten(),
                avg_factor=weight.sum().clamp(min=1) + 1e-5,
            )  # fmt: skip
        total.backward()
        return float(total)

    return {'ours': matched, 'all masks': all_masks}


def match_all(head: Any, cls_logits: Any, masks: Any, targets: list[Any]) -> list[Any]:
    """Match decoded masks to targets with the head's own assigner."""
    from mmengine.structures import InstanceData

    found = []
    for scores, mask, gt in zip(cls_logits.detach(), masks.detach(), targets, strict=True):
        gt_inds = head.assigner.assign(InstanceData(scores=scores, masks=mask), gt).gt_inds
        query_inds = gt_inds.nonzero().squeeze(1)
        found.append((query_inds, gt_inds[query_inds] - 1))
    return found


STEPS = {'attention': attention_steps, 'mask-loss': mask_loss_steps}


def require_equal_values(steps: dict[str, Callable[[], float]]) -> dict[str, float]:
    """Run every variant once; refuse to time what computes something else.

    Raises:
        SystemExit: if the values differ by more than a thousandth.
    """
    values = {name: step() for name, step in steps.items()}
    first, second = values.values()
    if abs(first - second) > 1e-3 * abs(second):
        raise SystemExit(f'the variants disagree: {values}')
    return values


def compare(args: argparse.Namespace) -> list[Row]:
    """Compare time and memory of the two variants of a case."""
    steps = STEPS[args.case](args.size, args.batch)
    values = require_equal_values(steps)
    timings = take_turns(steps, args.rounds, block=3, warm_ups=0)
    row: Row = {'size': args.size, 'batch': args.batch}
    for name, timing in timings.items():
        options = {key: getattr(args, key) for key in ('case', 'size', 'batch', 'threads')}
        peak = in_own_process(__file__, {**options, 'peak-of': name})['peak_mb']
        row[name] = {**timing, 'value': values[name], 'peak_mb': peak}
    ours, rival = steps
    row[f'{ours} / {rival}'] = ratios(row[ours], row[rival])
    return [row]


def main() -> None:
    """Measure one case and write its row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--case', choices=STEPS, required=True)
    parser.add_argument('--size', type=int, default=512, help='height and width of the images')
    parser.add_argument('--batch', type=int, default=2)
    add_arguments(parser, threads=1, rounds=2, runs='blocks of three per variant')
    args = parser.parse_args()
    import torch

    torch.set_num_threads(args.threads)
    if args.peak_of:
        step = STEPS[args.case](args.size, args.batch)[args.peak_of]
        print(json.dumps(measure_peak(lambda: [step(), step()])))
    else:
        report('ISDA', args, compare)


if __name__ == '__main__':
    main()
