"""Check the data sets of a configuration without training: a table of counts with examples.

Exit codes: 0 nothing fatal, 2 wrong command, configuration or path, 3 something is fatal.
"""

import argparse
from typing import TYPE_CHECKING

from isda_suite.engine.arguments import add_config, add_config_options
from isda_suite.engine.exit_codes import leave, run_tool

if TYPE_CHECKING:
    from mmengine.config import Config

_SPLITS = ('train', 'val', 'test')


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config(parser)
    parser.add_argument('--split', choices=_SPLITS, nargs='+', default=_SPLITS, help='default: all')
    parser.add_argument(
        '--images', action='store_true', help='decode every image and compare its size too'
    )
    add_config_options(parser)
    return parser.parse_args()


def main() -> int:
    """Check every data set once; return 3 if anything is fatal."""
    args = parse_args()
    from mmengine.registry import DefaultScope

    from isda_suite.engine.config_file import parse_options, read_config

    cfg = read_config(args.config, parse_options(args.cfg_options))
    data_sets = _data_sets(cfg, args.split)
    # mmdet and mmseg have classes of the same name, CityscapesDataset for one.
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        return _check(data_sets, args.images)


def _check(data_sets: list[tuple[str, dict[str, object]]], images: bool) -> int:
    from isda_suite.compat.warning_filters import quiet_imports
    from isda_suite.engine.exit_codes import DONE, WRONG_COMMAND, WRONG_DATA

    with quiet_imports():
        from isda_suite.datasets.checks import inspect_dataset
        from isda_suite.datasets.errors import DataError

    code = DONE
    for split, dataset_cfg in data_sets:
        print(f'== {split}')
        try:
            reports = inspect_dataset(dataset_cfg, images=images, progress=True)
        except FileNotFoundError as error:
            code = code or WRONG_COMMAND
            print(f'error: {error}')
        except DataError as error:
            code = WRONG_DATA
            print(f'error: {error}')
        else:
            print('\n'.join(report.table() for report in reports))
            if any(report.fatal for report in reports):
                code = WRONG_DATA
    return code


def _data_sets(cfg: 'Config', splits: list[str]) -> list[tuple[str, dict[str, object]]]:
    """Return the data sets to check; equal ones (test is often val) only once."""
    from isda_suite.engine.errors import ConfigError

    found: list[tuple[str, dict[str, object]]] = []
    for split in splits:
        loader = cfg.get(f'{split}_dataloader')
        if loader and loader.dataset not in [known for _, known in found]:
            found.append((split, loader.dataset))
    if not found:
        raise ConfigError(
            f'the configuration has no data loader for {", ".join(splits)}: '
            'expected train_dataloader, val_dataloader or test_dataloader'
        )
    return found


if __name__ == '__main__':
    leave(run_tool(main))
