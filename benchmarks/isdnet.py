"""ISDNet beside a literal implementation with the same weights, and its evaluation beside mmseg's.

    python benchmarks/isdnet.py --case forward      # time and peak memory, ours against literal
    python benchmarks/isdnet.py --case evaluation   # IoU of one map of 5000 x 5000 pixels
    python benchmarks/isdnet.py --case memory       # peak memory of one pass by side of the image
    python benchmarks/isdnet.py --case bfloat16     # pixels that bfloat16 labels differently

Weights are random with normalisations that do not vanish; the case bfloat16 takes a configuration,
weights and images too. Outputs are compared before anything is timed. Times are CPU seconds in
blocks A A A B B B, several times over; the claim is the ratio of the medians. Memory is the peak
above the weights and the normalised image, in a process of its own for each variant, which has seen
a small image before.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# The rival lies beside this file, in no package that is installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.side_by_side import (
    Action,
    Row,
    add_arguments,
    in_own_process,
    measure_peak,
    report,
    take_turns,
)

CONFIG = 'isdnet/isdnet_1224x1224_80k_deepglobe.py'
CLASSES = 7
# Of the largest logit: the tolerance of the numbers recorded from the original implementation.
TOLERANCE = 1e-3


def build_model(config: str = CONFIG, checkpoint: str | None = None) -> Any:
    """Build a network, from a checkpoint or with random weights."""
    from isda_suite.apis.model import load_model

    torch.manual_seed(0)
    model: Any = load_model(config, checkpoint, device='cpu')
    if checkpoint is not None:
        return model
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            module.weight.data.normal_(1, 0.2)
            module.bias.data.normal_()
    for name, parameter in model.named_parameters():
        if name.endswith('_gain'):
            parameter.data.fill_(0.3)
    return model


def noise(side: int) -> Tensor:
    """Make a normalised image."""
    return torch.randn((1, 3, side, side), generator=torch.Generator().manual_seed(1))


def prepare(variant: str) -> Callable[[Tensor], Tensor]:
    """Return the function from a normalised image to its label map.

    Args:
        variant: ``literal``, ``ours`` as it is built, or ``ours fast``, fused and channels last.
    """
    model = build_model()
    if variant == 'literal':
        from benchmarks.rivals.isdnet_literal import load_weights_of

        literal = load_weights_of(model)
        return lambda image: literal.predict(image, (image.shape[2], image.shape[3]))
    if variant == 'ours fast':
        from isda_suite.apis.performance.fast_inference import optimise_for_inference

        optimise_for_inference(model)
    return lambda image: model.predict(image)[0].pred_sem_seg.data


VARIANTS = ('literal', 'ours', 'ours fast')


def require_equal_logits() -> None:
    """Refuse to time a network that computes something else.

    Raises:
        SystemExit: if logits differ by more than the golden tolerance.
    """
    from benchmarks.rivals.isdnet_literal import load_weights_of
    from isda_suite.apis.performance.fast_inference import optimise_for_inference

    model, image = build_model(), noise(209)
    expected = load_weights_of(model).encode_decode(image)
    allowed = TOLERANCE * float(expected.abs().max())
    for name in ('ours', 'ours fast'):
        if name == 'ours fast':
            optimise_for_inference(model)
        worst = float((model.encode_decode(image, []) - expected).abs().max())
        if not worst <= allowed:
            raise SystemExit(f'{name}: logits differ by {worst:.2g}, allowed {allowed:.2g}')


def peak_mb(work: str, side: int, threads: int) -> float:
    """Measure the peak of a variant in a fresh process."""
    options = {'case': 'memory', 'peak-of': work, 'sides': side, 'threads': threads}
    return float(in_own_process(__file__, options)['peak_mb'])


def print_peak(work: str, side: int) -> None:
    """Print the peak of a variant in this process, in MB."""
    if work in VARIANTS:
        label, image = prepare(work), noise(side)
        label(noise(256))
        action: Action = partial(label, image)
    else:
        evaluations(64)[work]()
        action = evaluations(side)[work]
    print(json.dumps(measure_peak(action)))


def compare_forward(args: argparse.Namespace) -> list[Row]:
    """Compare time and memory of label maps at each side."""
    require_equal_logits()
    labels = {variant: prepare(variant) for variant in VARIANTS}
    rows = []
    for side in args.sides or (1224, 2448):
        image = noise(side)
        maps = {name: label(image).squeeze().long() for name, label in labels.items()}
        actions = {name: partial(label, image) for name, label in labels.items()}
        row: Row = {'side': side}
        for name, timing in take_turns(actions, args.rounds, block=3).items():
            differing = int((maps[name] != maps['literal']).sum())
            peak = peak_mb(name, side, args.threads)
            row[name] = {**timing, 'peak_mb': peak, 'pixels_that_differ': differing}
        for name in VARIANTS[1:]:
            row[name] |= gains(row[name], row['literal'])
        rows.append(row)
    return rows


def gains(ours: dict[str, float], rival: dict[str, float]) -> dict[str, float]:
    """How many times faster, and what share of the memory."""
    return {
        'times_faster': round(rival['cpu_median_s'] / ours['cpu_median_s'], 2),
        'share_of_memory': round(ours['peak_mb'] / rival['peak_mb'], 3),
    }


def evaluations(side: int) -> dict[str, Action]:
    """Return the counting of one map by mmseg's metric and by ours."""
    from mmseg.evaluation import IoUMetric as Mmseg

    from isda_suite.metrics import IoUMetric as Ours

    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, CLASSES, (side // 10 + 1, side // 10 + 1), generator=generator)
    label = coarse.repeat_interleave(10, 0).repeat_interleave(10, 1)[:side, :side].contiguous()
    wrong = torch.rand((side, side), generator=generator) < 0.2
    pred = torch.where(wrong, (label + 1) % CLASSES, label).byte()
    label[torch.rand((side, side), generator=generator) < 0.01] = 255
    label = label.byte()
    # mmseg's transforms and heads give int64; ours give bytes.
    wide_pred, wide_label = pred.long(), label.long()
    return {
        'metric of mmseg': lambda: Mmseg.intersect_and_union(wide_pred, wide_label, CLASSES, 255),
        'our metric': lambda: Ours.intersect_and_union(pred, label, CLASSES, 255),
    }


def compare_evaluation(args: argparse.Namespace) -> list[Row]:
    """Compare the counting of one map."""
    side = (args.sides or (5000,))[0]
    actions = evaluations(side)
    pairs = zip(*(action() for action in actions.values()), strict=True)
    if not all(torch.equal(theirs.double(), ours.double()) for theirs, ours in pairs):
        raise SystemExit('the counts differ; nothing was timed')
    row: Row = {'side': side}
    for name, timing in take_turns(actions, args.rounds, block=3).items():
        row[name] = {**timing, 'peak_mb': peak_mb(name, side, args.threads)}
    row['our metric'] |= gains(row['our metric'], row['metric of mmseg'])
    return [row]


def measure_memory(args: argparse.Namespace) -> list[Row]:
    """Measure one pass over whole images."""
    rows = []
    for side in args.sides or (1024, 2048, 4096, 8192):
        peak = peak_mb('ours fast', side, args.threads)
        rows.append({'side': side, 'peak_mb': peak, 'bytes_a_pixel': round(peak * 2**20 / side**2)})
    return rows


def label_maps(args: argparse.Namespace, amp_dtype: str | None) -> Iterator[Tensor]:
    """Yield the label maps of the images, or of noise, in a precision."""
    from isda_suite.apis.inference import iterate_predictions
    from isda_suite.apis.performance.fast_inference import InferenceSteps, optimise_for_inference

    model = build_model(args.config, args.checkpoint)
    optimise_for_inference(model, InferenceSteps(amp_dtype=amp_dtype))
    if args.images is None:
        for side in args.sides or (1224,):
            yield model.predict(noise(side))[0].pred_sem_seg.data
        return
    for found in iterate_predictions(model, args.images, progress=False):
        yield found.sample.pred_sem_seg.data


def compare_bfloat16(args: argparse.Namespace) -> list[Row]:
    """Compare label maps of float32 and bfloat16."""
    pairs = zip(label_maps(args, None), label_maps(args, 'bfloat16'), strict=True)
    shares = [float((exact != rough).double().mean()) for exact, rough in pairs]
    return [
        {
            'config': args.config,
            'weights': args.checkpoint or 'random',
            'images': args.images or 'noise',
            'number_of_images': len(shares),
            'share_of_pixels_that_differ': round(statistics.mean(shares), 5),
            'share_in_the_worst_image': round(max(shares), 5),
        }
    ]


CASES: dict[str, Callable[[argparse.Namespace], list[Row]]] = {
    'forward': compare_forward,
    'evaluation': compare_evaluation,
    'memory': measure_memory,
    'bfloat16': compare_bfloat16,
}


def main() -> None:
    """Measure one case and write its rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--case', choices=CASES, required=True)
    parser.add_argument('--sides', type=int, nargs='+', help='sides of the square images')
    add_arguments(parser, threads=2, rounds=2, runs='blocks of three per variant')
    only = parser.add_argument_group('of the case bfloat16')
    only.add_argument('--config', default=CONFIG, help='default: the published one')
    only.add_argument('--checkpoint', help='default: random weights')
    only.add_argument(
        '--images', help='folder, through the test pipeline of the configuration; default: noise'
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with torch.no_grad():
        if args.peak_of:
            print_peak(args.peak_of, args.sides[0])
        else:
            report('ISDNet', args, CASES[args.case])


if __name__ == '__main__':
    main()
