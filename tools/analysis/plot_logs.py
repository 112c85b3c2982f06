"""Draw what one or several runs have logged: losses, learning rate, metrics.

RUN is the folder for logs of a run (newer logs go on where older ones ended), one of its folders
with a date, or a scalars.json. Each key gets a chart with all runs in it.
"""

import argparse

from isda_suite.engine.exit_codes import leave, run_tool


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('runs', nargs='+', metavar='RUN', help='what to draw')
    parser.add_argument(
        '--keys', nargs='+', default=[], help="names or patterns, such as 'loss*' (loss, mAP, mIoU)"
    )
    parser.add_argument('--names', nargs='+', default=[], help='what the runs are called')
    parser.add_argument(
        '--smooth', type=float, default=0.0, metavar='W', help='weight of values before, e.g. 0.9'
    )
    parser.add_argument('--log-scale', action='store_true', help='values on a logarithmic axis')
    parser.add_argument('--out', default='logs.png', metavar='FILE', help='.png, .svg or .pdf')
    return parser.parse_args()


def main() -> None:
    """Draw, and print the last values."""
    args = parse_args()
    from isda_suite.compat.warning_filters import quiet_imports

    with quiet_imports():
        from isda_suite.apis.logs import plot_logs

    curves = plot_logs(
        args.runs, args.out, args.keys, args.names, smoothing=args.smooth, log_scale=args.log_scale
    )
    for curve in curves:
        print(f'{curve.run}  {curve.key}: {curve.values[-1]:.4g} at step {curve.steps[-1]:g}')
    print(f'wrote {args.out}')


if __name__ == '__main__':
    leave(run_tool(main))
