#!/usr/bin/env python
"""Publish the weights of a checkpoint as .safetensors and .pth with their hash in the name.

What only a training needs (optimizer, schedules, logs) is left out. The last lines say what
belongs into metafile.yml; with --metafile they are written there.

Example:
    python tools/publish_checkpoint.py work_dirs/isda_r50/epoch_42.pth published/isda_r50
"""

import argparse
from pathlib import Path

from isda_suite.engine.arguments import add_trust_checkpoint
from isda_suite.engine.exit_codes import leave, run_tool


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('src', metavar='SRC', help='checkpoint to read (.pth, .safetensors)')
    parser.add_argument(
        'dst', metavar='DST', help='folder and name of the results, without hash and suffix'
    )
    parser.add_argument('--metafile', type=Path, help='metafile.yml to write the hashes into')
    parser.add_argument('--config-name', metavar='NAME', help='model in the metafile')
    add_trust_checkpoint(parser)
    args = parser.parse_args()
    if (args.metafile is None) != (args.config_name is None):
        parser.error('--metafile and --config-name belong together')
    return args


def main() -> None:
    """Write both files, print their names and hashes, enter them into the metafile."""
    args = parse_args()
    from isda_suite.apis.publish import publish_checkpoint
    from isda_suite.engine.metafile import describe, enter, require_entry

    if args.metafile is not None:
        require_entry(args.metafile, args.config_name)
    written = publish_checkpoint(args.src, args.dst, args.trust_checkpoint)
    hashes = {file.name: digest for file, digest in written.items()}
    for file in written:
        print(f'wrote {file} ({file.stat().st_size} bytes)')
    if args.metafile is None:
        print('\n'.join(['for metafile.yml:', *describe(hashes)]))
    else:
        enter(args.metafile, args.config_name, hashes)
        print(f'entered into {args.config_name} of {args.metafile}')


if __name__ == '__main__':
    leave(run_tool(main))
