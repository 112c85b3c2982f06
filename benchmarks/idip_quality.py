"""Quality of a trained IDIP against the time an image takes, over boxes and sampling steps.

    python benchmarks/idip_quality.py CONFIG CHECKPOINT --boxes 50 100 --steps 1 3 8

Weights are loaded once; every row asks the same model for other numbers of boxes and steps, with
the test data and the metric of the configuration. Time is processor time of the whole of
``test_step`` (preprocessing, network, masks at the size of the image), mean over the images; rows
come one after the other, so other work on the machine moves the clock, less the processor time.
"""

import argparse
import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from mmengine.evaluator import Evaluator
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from isda_suite.apis.model import load_model
from isda_suite.engine.arguments import add_config_options
from isda_suite.engine.config_file import parse_options, read_config

# What the benchmarks share lies beside this file, in no package that is installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.side_by_side import Row, report

_SHOWN = ('_mAP', '_mAP_50')


@torch.no_grad()
def evaluate(model: torch.nn.Module, loader: Any, metric: Any) -> Row:
    """Run the test data through the model and return metrics and time."""
    evaluator = Evaluator(metric)
    evaluator.dataset_meta = loader.dataset.metainfo
    cpu, wall, count = 0.0, 0.0, 0
    for batch in loader:
        start = time.process_time(), time.perf_counter()
        samples = model.test_step(batch)
        cpu += time.process_time() - start[0]
        wall += time.perf_counter() - start[1]
        evaluator.process(data_samples=samples, data_batch=batch)
        count += len(samples)
    found = evaluator.evaluate(count)
    row = {name.split('/')[1]: found[name] for name in found if name.endswith(_SHOWN)}
    row |= {'cpu_s_an_image': round(cpu / count, 3), 'wall_s_an_image': round(wall / count, 3)}
    return row


def evaluate_all(args: argparse.Namespace) -> list[Row]:
    """Evaluate every pair of numbers of boxes and steps."""
    cfg = read_config(args.config, parse_options(args.cfg_options))
    model = load_model(cfg, args.checkpoint)
    base, rows = dict(model.test_cfg), []
    choices = [
        dict(num_proposals=boxes, sampling_steps=steps, ensemble=ensemble)
        for boxes, steps in itertools.product(args.boxes, args.steps)
        for ensemble in ((False, True) if args.ensemble and steps > 1 else (False,))
    ]
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        loader = Runner.build_dataloader(cfg.test_dataloader, seed=0)
        for choice in choices:
            model.test_cfg = base | choice
            rows.append(choice | evaluate(model, loader, cfg.test_evaluator))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def main() -> None:
    """Parse arguments, evaluate, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('--boxes', type=int, nargs='+', default=[100, 300])
    parser.add_argument('--steps', type=int, nargs='+', default=[1, 3, 8])
    parser.add_argument('--ensemble', action='store_true', help='also with all steps counted')
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--out', type=Path, help='JSON file for the result; its table beside it')
    add_config_options(parser)
    args = parser.parse_args()
    args.case = f'quality of {Path(args.config).stem}'
    torch.set_num_threads(args.threads)
    report('IDIP', args, evaluate_all)


if __name__ == '__main__':
    main()
