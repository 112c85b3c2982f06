"""Evaluate a checkpoint on the test data of a configuration.

Exit codes: 0 done, 2 wrong command, configuration or checkpoint, 3 wrong data, 1 anything else.
"""

import argparse
import os
import sys

from isda_suite.engine.exit_codes import run_tool


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='file, or bare name of a shipped configuration')
    parser.add_argument('checkpoint', help='weights that fit the model completely')
    parser.add_argument('--work-dir', help='folder for logs (work_dirs/NAME)')
    parser.add_argument(
        '--eval',
        nargs='+',
        metavar='WHAT',
        help='evaluate this instead of what the configuration says: segm bbox for instances, '
        'mIoU mDice mFscore for semantic data',
    )
    parser.add_argument('--out', metavar='FILE', help='write the predictions to a .json or .pkl')
    parser.add_argument(
        '--format-only', action='store_true', help='write result files, compute nothing'
    )
    parser.add_argument('--show-dir', metavar='DIR', help='draw the predictions into this folder')
    parser.add_argument(
        '--show-score-thr', type=float, default=0.3, help='draw instances from this score on (0.3)'
    )
    parser.add_argument(
        '--tta', action='store_true', help='test-time augmentation as the configuration defines it'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action='extend',
        metavar='KEY=VALUE',
        help='change values of the configuration; +KEY=VALUE adds one; lists as KEY=[a,b]',
    )
    parser.add_argument('--options', nargs='+', action='extend', help=argparse.SUPPRESS)
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='who started the processes (dist_test.sh and slurm_test.sh set it)',
    )
    parser.add_argument('--local-rank', '--local_rank', type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='let the checkpoint run code while it is read; only for files of a known origin',
    )
    return parser.parse_args()


def main() -> None:
    """Evaluate."""
    args = parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    from isda_suite.apis.test import evaluate
    from isda_suite.engine.config_file import parse_options

    evaluate(
        args.config,
        args.checkpoint,
        eval=args.eval,
        out=args.out,
        format_only=args.format_only,
        show_dir=args.show_dir,
        show_score_thr=args.show_score_thr,
        tta=args.tta,
        cfg_options=parse_options(args.cfg_options, args.options),
        launcher=args.launcher,
        trust_checkpoint=args.trust_checkpoint,
        work_dir=args.work_dir,
    )


if __name__ == '__main__':
    sys.exit(run_tool(main))
