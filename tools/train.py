"""Train a model from a configuration.

Exit codes: 0 done, 2 wrong command or configuration, 3 wrong data, 4 non-finite loss,
75 preempted after a saved checkpoint, 1 anything else.
"""

import argparse
import os

from isda_suite.engine.arguments import (
    add_config,
    add_config_options,
    add_launcher,
    add_trust_checkpoint,
)
from isda_suite.engine.exit_codes import leave, run_tool


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config(parser)
    parser.add_argument('--work-dir', help='folder for logs and checkpoints (work_dirs/NAME)')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='PATH',
        help='continue from a checkpoint; without a path from the newest one of the work dir',
    )
    parser.add_argument(
        '--amp', action='store_true', help='mixed precision: float16 on a GPU, bfloat16 on a CPU'
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate with the number of images per step',
    )
    parser.add_argument('--seed', type=int, help='seed of all random numbers')
    parser.add_argument(
        '--deterministic', action='store_true', help='use deterministic algorithms only'
    )
    parser.add_argument(
        '--allow-world-size-change',
        action='store_true',
        help='resume with another number of images a step; the learning rate is scaled with it',
    )
    parser.add_argument(
        '--allow-config-change',
        action='store_true',
        help='resume with another model or optimizer configuration',
    )
    add_config_options(parser)
    add_launcher(parser, 'dist_train.sh and slurm_train.sh')
    add_trust_checkpoint(parser)
    return parser.parse_args()


def main() -> None:
    """Train."""
    args = parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    from isda_suite.apis.train import train
    from isda_suite.engine.config_file import parse_options

    train(
        args.config,
        work_dir=args.work_dir,
        resume=args.resume,
        amp=args.amp,
        auto_scale_lr=args.auto_scale_lr,
        seed=args.seed,
        deterministic=args.deterministic,
        cfg_options=parse_options(args.cfg_options, args.options),
        launcher=args.launcher,
        trust_checkpoint=args.trust_checkpoint,
        allow_world_size_change=args.allow_world_size_change,
        allow_config_change=args.allow_config_change,
    )


if __name__ == '__main__':
    leave(run_tool(main))
