"""Show a configuration with its bases merged.

A configuration is a program: showing it merged runs it. ``--safe`` shows the files as they are
written, without running anything.
"""

import argparse

from isda_suite.engine.arguments import add_config, add_config_options
from isda_suite.engine.exit_codes import leave, run_tool


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config(parser)
    parser.add_argument(
        '--safe', action='store_true', help='show the text of the files, run nothing'
    )
    add_config_options(parser)
    args = parser.parse_args()
    if args.safe and args.cfg_options:
        parser.error('--cfg-options needs the merged configuration, --safe does not make one')
    return args


def main() -> None:
    """Print the configuration."""
    args = parse_args()
    from isda_suite.engine.config_file import parse_options, read_config, read_sources

    if args.safe:
        for path, text in read_sources(args.config):
            print(f'# ---- {path}\n{text}')
        return
    from isda_suite.engine.config_checks import check_keys

    cfg = read_config(args.config, parse_options(args.cfg_options))
    check_keys(cfg)
    print(cfg.pretty_text)


if __name__ == '__main__':
    leave(run_tool(main))
