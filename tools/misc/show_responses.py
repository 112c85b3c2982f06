"""Show what queries answer on their own and on other images, with and without IUQ.

Writes one picture (a row for each query; its image with the instance outlined, then its response
there and on other images, a block of columns for each checkpoint) and a file of statistics. Works
with every query-based detector that has an adapter, as a plain one or with IUQ around; a checkpoint
trained with IUQ is one of the plain detector, so one configuration serves both.

Example:
    python tools/misc/show_responses.py CONFIG --checkpoint plain.pth --compare iuq.pth
"""

import argparse
from pathlib import Path

from isda_suite.engine.arguments import (
    add_config,
    add_config_options,
    add_device,
    add_trust_checkpoint,
)
from isda_suite.engine.exit_codes import leave, run_tool

_AT_LEAST = {
    'num_images': 1,
    'queries': 1,
    'others': 1,
    'statistics_images': 2,
    'max_queries': 1,
}


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config(parser)
    parser.add_argument('--checkpoint', help='weights (default: random ones)')
    parser.add_argument('--compare', metavar='CKPT', help='weights to show beside them')
    parser.add_argument(
        '--compare-config', metavar='CONFIG', help='configuration of those, if it is another model'
    )
    parser.add_argument(
        '--names', nargs='+', metavar='NAME', help='what the models are called (default: files)'
    )
    parser.add_argument(
        '--split', choices=('train', 'val', 'test'), default='val', help='default: val'
    )
    parser.add_argument('--images', nargs='+', type=int, help='images by place in the data, from 0')
    parser.add_argument('--num-images', type=int, default=3, help='or so many (default: 3)')
    parser.add_argument(
        '--instances', nargs='+', type=int, help='instances of them (default: the best found ones)'
    )
    parser.add_argument('--queries', type=int, default=2, help='queries an image (default: 2)')
    parser.add_argument('--others', type=int, default=3, help='other images shown (default: 3)')
    parser.add_argument(
        '--hardest', action='store_true', help='those answered most strongly, not the next ones'
    )
    parser.add_argument(
        '--statistics-images', type=int, default=30, help='images measured (default: 30)'
    )
    parser.add_argument(
        '--max-queries', type=int, default=32, help='queries measured an image (default: 32)'
    )
    parser.add_argument('--adapter', default='auto', help='query adapter (default: by the head)')
    parser.add_argument('--seed', type=int, default=0, help='of augmentation and sampling')
    parser.add_argument('--out-dir', default='work_dirs/responses', help='folder for both files')
    add_device(parser)
    add_config_options(parser)
    add_trust_checkpoint(parser)
    args = parser.parse_args()
    for name, least in _AT_LEAST.items():
        if getattr(args, name) < least:
            option = name.replace('_', '-')
            parser.error(f'--{option} must be at least {least}, got {getattr(args, name)}')
    if args.compare_config and not args.compare:
        parser.error('--compare-config needs --compare')
    if args.names and len(args.names) != (2 if args.compare else 1):
        parser.error(f'--names: one for each checkpoint, got {len(args.names)}')
    return args


def main() -> None:
    """Record, draw and measure."""
    args = parse_args()
    from isda_suite.compat.warning_filters import filter_known_warnings, quiet_imports

    filter_known_warnings()
    with quiet_imports():
        import isda_suite.datasets  # noqa: F401  (loads mmdet's data sets, which print lines)
        from isda_suite.apis.queries.responses import Selection, show_responses
        from isda_suite.engine.config_file import parse_options, read_config

    options = parse_options(args.cfg_options)
    cfg = read_config(args.config, options)
    models = [(_name_of(args.checkpoint), cfg, args.checkpoint)]
    if args.compare:
        other = read_config(args.compare_config, options) if args.compare_config else cfg
        models.append((_name_of(args.compare), other, args.compare))
    if args.names:
        models = [(name, *rest) for name, (_, *rest) in zip(args.names, models, strict=True)]
    selection = Selection(
        args.split,
        tuple(args.images) if args.images else None,
        args.num_images,
        tuple(args.instances) if args.instances else None,
        args.queries,
        args.others,
        args.hardest,
        args.statistics_images,
        args.max_queries,
        args.seed,
    )
    picture, file, report = show_responses(
        models, args.out_dir, selection, args.adapter, args.device, args.trust_checkpoint
    )
    _print_table(report)
    print(f'wrote {picture} and {file}')


def _name_of(checkpoint: str | None) -> str:
    """Call a checkpoint by its folder and file, as files of several runs have the same name."""
    return '/'.join(Path(checkpoint).parts[-2:]) if checkpoint else 'random weights'


def _print_table(report: dict) -> None:  # type: ignore[type-arg]
    print(f'{"":34}{"pixels":>12}{"mean":>9}{"top 1 %":>9}{"> 0.5":>9}')
    for model in report['models']:
        print(f'{model["name"]}: {model["queries"]} queries of {report["images"]} images')
        for name in ('own_instance', 'own_rest', 'foreign', 'foreign_instances'):
            found = model[name]
            if found['pixels']:
                print(
                    f'  {name:32}{found["pixels"]:>12}{found["mean"]:>9.4f}'
                    f'{found["top_1_percent"]:>9.4f}{found["share_above_half"]:>9.2%}'
                )


if __name__ == '__main__':
    leave(run_tool(main))
