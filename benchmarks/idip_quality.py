"""Quality of a trained IDIP against the time an image takes, over boxes and sampling steps.

    python benchmarks/idip_quality.py CONFIG CHECKPOINT --boxes 50 100 --steps 1 3 8

Weights are loaded once; every row asks the same model for other numbers of boxes and steps, with
the test data and the metric of the configuration. Time is processor time of the whole of
``test_step`` (preprocessing, network, masks at the size of the image), mean over the images; rows
come one after the other, so other work on the machine moves the clock, less the processor time.
"""

import argparse
import json
import platform
import sys
import time
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, DictAction
from mmengine.evaluator import Evaluator
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from isda_suite.apis.model import load_model

Row = dict[str, Any]


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
    row = {name.split('/')[1]: value for name, value in found.items() if name.endswith(('_mAP', '_mAP_50'))}  # fmt: skip  # noqa: E501
    return {**row, 'cpu_s_an_image': round(cpu / count, 3), 'wall_s_an_image': round(wall / count, 3)}  # fmt: skip  # noqa: E501


def main() -> None:
    """Parse arguments, evaluate every pair, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('--boxes', type=int, nargs='+', default=[100, 300])
    parser.add_argument('--steps', type=int, nargs='+', default=[1, 3, 8])
    parser.add_argument('--ensemble', action='store_true', help='also with all steps counted')
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--out', help='json file of the rows')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options or {})
    model = load_model(cfg, args.checkpoint)
    base, rows = dict(model.test_cfg), []
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        loader = Runner.build_dataloader(cfg.test_dataloader, seed=0)
        for boxes in args.boxes:
            for steps in args.steps:
                for ensemble in (False, True) if args.ensemble and steps > 1 else (False,):
                    model.test_cfg = base | dict(
                        num_proposals=boxes, sampling_steps=steps, ensemble=ensemble
                    )
                    row = dict(boxes=boxes, steps=steps, ensemble=ensemble)
                    rows.append(row | evaluate(model, loader, cfg.test_evaluator))
                    print(json.dumps(rows[-1]), flush=True)
    if args.out:
        about = dict(
            torch=torch.__version__,
            python=platform.python_version(),
            threads=args.threads,
            config=Path(args.config).name,
            images=len(loader.dataset),
        )
        Path(args.out).write_text(json.dumps({**about, 'rows': rows}, indent=1) + '\n')


if __name__ == '__main__':
    sys.exit(main())
