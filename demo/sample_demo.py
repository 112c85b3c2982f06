"""Train, evaluate and draw on the built-in data set (`make demo`)."""

import argparse


def main() -> int:
    """Parse the arguments and run the demonstration."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out-dir', default='demo_out', help='results (default: %(default)s)')
    parser.add_argument(
        '--data-dir', default='data/sample', help='the generated data set (default: %(default)s)'
    )
    parser.add_argument('--cfg-options', nargs='+', metavar='KEY=VALUE', help='changes')
    args = parser.parse_args()

    from isda_suite.compat.warning_filters import quiet_imports
    from isda_suite.engine.config_file import parse_options

    with quiet_imports():
        import isda_suite.datasets  # noqa: F401  (loads mmdet's data sets, which print lines)
        from isda_suite.apis.demo import run_demo

    run_demo(args.out_dir, args.data_dir, parse_options(args.cfg_options))
    return 0


if __name__ == '__main__':
    from isda_suite.engine.exit_codes import leave, run_tool

    leave(run_tool(main))
