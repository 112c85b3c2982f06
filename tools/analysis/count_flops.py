"""Count the parameters of a model and the multiply-adds of a forward pass, by module.

One pass over noise, without post-processing; attention, deformable attention and deformable
convolution are counted too.
"""

import argparse
import json

from isda_suite.engine.arguments import add_config, add_config_options, add_device
from isda_suite.engine.exit_codes import leave, run_tool


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config(parser)
    parser.add_argument('--height', type=int, default=800, help='pixels (800)')
    parser.add_argument('--width', type=int, default=1333, help='pixels (1333)')
    parser.add_argument('--depth', type=int, default=2, help='levels of modules to show (2)')
    parser.add_argument('--out', metavar='JSON', help='write every module here')
    add_device(parser)
    add_config_options(parser)
    args = parser.parse_args()
    if args.depth < 0:
        parser.error(f'--depth must not be negative, got {args.depth}')
    return args


def main() -> None:
    """Count, print, write."""
    args = parse_args()
    from isda_suite.compat.warning_filters import filter_known_warnings, quiet_imports
    from isda_suite.engine.config_file import parse_options, read_config

    filter_known_warnings()
    cfg = read_config(args.config, parse_options(args.cfg_options))
    with quiet_imports():
        from isda_suite.apis.performance.complexity import count_model
        from isda_suite.checkpoint.atomic import write_atomically

    found = count_model(cfg, args.height, args.width, args.device)
    print(found.table(args.depth))
    if args.out:
        with write_atomically(args.out, text=True) as file:
            json.dump(found.as_json(), file, indent=2)
            file.write('\n')
        print(f'wrote {args.out}')


if __name__ == '__main__':
    leave(run_tool(main))
