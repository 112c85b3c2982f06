"""Training, masks and inference of IDIP, ratios measured in one process.

    python benchmarks/idip.py --case step     # a training step: ours against an eager form
    python benchmarks/idip.py --case masks    # inference of masks: all images at once or a loop
    python benchmarks/idip.py --case mask-training  # all images and stages at once or a loop
    python benchmarks/idip.py --case predict  # a batch of four images against four single ones

Noise with ellipses as ground truth, R-50 with random weights, 80 classes. The eager form has the
structure of the published code: masks of all classes, image by image and stage by stage. Losses,
gradients, statistics, masks and detections are compared before anything is timed. Variants
alternate; the claim is the ratio of the medians of processor time, which another process on the
machine disturbs less than the clock. Memory is the peak above what the process holds before the
step, model and state of the optimiser included, in a process of its own for each variant.
"""

import argparse
import json
import logging
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

# The steps and the rival lie beside this file, in no package that is installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.idip_steps import (
    IMAGES,
    INSTANCES,
    VARIANTS,
    MaskWork,
    build_model,
    make_images,
    make_samples,
    make_step,
    relative_gap,
    require_equal_steps,
)
from benchmarks.side_by_side import (
    Row,
    add_arguments,
    in_own_process,
    measure_peak,
    ratios,
    report,
    take_turns,
)


def compare_steps(args: argparse.Namespace) -> list[Row]:
    """Compare time and memory of a training step."""
    row: Row = {'images': 2, 'side': args.side, 'proposals': args.proposals}
    row['objects'] = args.objects
    row['relative_differences'] = require_equal_steps()
    apart = {name: measure_apart(name, args) for name in VARIANTS}
    images = make_images(2, args.side)
    samples = make_samples(2, args.side, args.objects)
    steps = {name: partial(make_step(name, args.proposals), images, samples) for name in VARIANTS}
    for name, timing in take_turns(steps, args.rounds).items():
        row[name] = {**timing, **apart[name]}
    for name in VARIANTS[:2]:
        row[f'{name} / eager'] = ratios(row[name], row['eager'])
    return [row]


def compare_masks(args: argparse.Namespace) -> list[Row]:
    """Compare the mask branch of 8 images with 20 instances each, at once and image by image.

    Inference, where statistics are frozen, with region features, as in the model.
    """
    work = MaskWork(args.side)

    @torch.no_grad()
    def at_once() -> torch.Tensor:
        return work.ours()

    @torch.no_grad()
    def one_by_one() -> torch.Tensor:
        return torch.cat([work.ours(slice(image, image + 1)) for image in range(IMAGES)])

    @torch.no_grad()
    def eager() -> torch.Tensor:
        return work.eager()

    work.model.eval()
    gap = max(relative_gap(one(), eager()) for one in (at_once, one_by_one))
    if gap > 1e-5:
        raise SystemExit(f'masks differ by {gap:.2g}; nothing was timed')
    row: Row = {'images': IMAGES, 'instances': INSTANCES, 'side': args.side}
    row['relative_difference'] = gap
    row |= take_turns({'at once': at_once, 'one by one': one_by_one, 'eager': eager}, args.rounds)
    for name in ('one by one', 'eager'):
        row[f'at once / {name}'] = ratios(row['at once'], row[name])
    return [row]


def compare_mask_training(args: argparse.Namespace) -> list[Row]:
    """Compare forward and backward of the masks of all stages, with frozen statistics.

    At once, and image by image and stage by stage; without any statistics nothing forbids it.
    """
    work = MaskWork(args.side)
    mask_head = work.model.roi_head.mask_head
    mask_head.norm_eval, mask_head.batching = True, 'grouped'
    work.model.train()
    feats = [feat.requires_grad_() for feat in work.feats]

    def run(masks: Callable[[], torch.Tensor]) -> list[torch.Tensor]:
        found = masks()
        found.sigmoid().mean().backward()  # type: ignore[no-untyped-call]
        grads = [feat.grad for feat in feats] + [p.grad for p in mask_head.parameters()]
        for leaf in (*feats, *mask_head.parameters()):
            leaf.grad = None
        return [found.detach(), *grads]

    variants = {
        'at once': partial(run, partial(work.ours, stages=args.stages)),
        'eager': partial(run, partial(work.eager, stages=args.stages)),
    }
    pairs = zip(*(variant() for variant in variants.values()), strict=True)
    gap = max(relative_gap(*pair) for pair in pairs)
    if gap > 1e-4:
        raise SystemExit(f'masks or gradients differ by {gap:.2g}; nothing was timed')
    row: Row = {'images': IMAGES, 'instances': INSTANCES, 'stages': args.stages}
    row |= {'side': args.side, 'relative_difference': gap}
    row |= take_turns(variants, args.rounds, warm_ups=0)  # they have run
    row['at once / eager'] = ratios(row['at once'], row['eager'])
    return [row]


def compare_batches(args: argparse.Namespace) -> list[Row]:
    """Compare inference of four images in a batch and one by one."""
    model = build_model(args.proposals).eval()
    images, samples = make_images(4, args.side), make_samples(4, args.side, 0)

    @torch.no_grad()
    def together() -> list[Any]:
        return list(model.predict(images, samples))

    @torch.no_grad()
    def single() -> list[Any]:
        return [model.predict(images[i : i + 1], [samples[i]])[0] for i in range(4)]

    # Copies: both write into the same samples.
    ours = [sample.pred_instances.scores.clone() for sample in together()]
    theirs = [sample.pred_instances.scores.clone() for sample in single()]
    for one, other in zip(ours, theirs, strict=True):
        if one.shape != other.shape or not torch.allclose(one, other, rtol=1e-3, atol=1e-4):
            raise SystemExit('a batch gives other detections; nothing was timed')
    row: Row = {'images': 4, 'side': args.side, 'proposals': args.proposals, 'steps': 3}
    row['detections'] = [len(one) for one in ours]
    ways = {'batch of 4': together, '4 single images': single}
    row |= take_turns(ways, args.rounds, warm_ups=0)  # they have run
    row['batch of 4 / 4 single images'] = ratios(*(row[name] for name in ways))
    return [row]


def measure_apart(variant: str, args: argparse.Namespace) -> Row:
    """Measure the memory of a variant in a fresh process."""
    options = {name: getattr(args, name) for name in ('side', 'proposals', 'objects', 'threads')}
    return in_own_process(__file__, {'case': 'step', 'peak-of': variant, **options})


def print_peak(variant: str, args: argparse.Namespace) -> None:
    """Print the peak of one step in this process: above its start, and all it holds."""
    step = make_step(variant, args.proposals)
    step(make_images(2, 64), make_samples(2, 64, 1))  # the optimiser has its state
    images = make_images(2, args.side)
    samples = make_samples(2, args.side, args.objects)
    print(json.dumps(measure_peak(partial(step, images, samples))))


CASES = {
    'step': compare_steps,
    'masks': compare_masks,
    'mask-training': compare_mask_training,
    'predict': compare_batches,
}


def main() -> None:
    """Measure one case and write its numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--case', choices=CASES, required=True)
    parser.add_argument('--side', type=int, default=384, help='of the square images')
    parser.add_argument('--proposals', type=int, default=100)
    parser.add_argument('--objects', type=int, default=30, help='of an image')
    parser.add_argument('--stages', type=int, default=6, help='of the case mask-training')
    add_arguments(parser, threads=1, rounds=3, runs='runs per variant that count')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    logging.disable(logging.INFO)  # mmengine lists every parameter it initialises
    if args.peak_of:
        print_peak(args.peak_of, args)
    else:
        report('IDIP', args, CASES[args.case])


if __name__ == '__main__':
    main()
