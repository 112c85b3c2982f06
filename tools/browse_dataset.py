"""Draw the samples of a data set as the model gets them, after augmentation, into a folder."""

import argparse

from isda_suite.engine.arguments import add_config, add_config_options
from isda_suite.engine.exit_codes import leave, run_tool


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_config(parser)
    parser.add_argument(
        '--split', choices=('train', 'val', 'test'), default='train', help='default: train'
    )
    parser.add_argument('--output-dir', default='work_dirs/browse', help='folder for pictures')
    parser.add_argument('--num', type=int, default=20, help='samples, spread over the data set')
    parser.add_argument('--seed', type=int, default=0, help='seed of the augmentation')
    parser.add_argument(
        '--not-show', action='store_true', help='accepted for old commands: no window is opened'
    )
    add_config_options(parser)
    args = parser.parse_args()
    if args.num < 1:
        parser.error(f'--num must be at least 1, got {args.num}')
    return args


def main() -> None:
    """Draw the samples and a contact sheet."""
    args = parse_args()
    from isda_suite.compat.warning_filters import quiet_imports
    from isda_suite.engine.config_file import parse_options, read_config
    from isda_suite.engine.errors import ConfigError

    cfg = read_config(args.config, parse_options(args.cfg_options))
    loader = cfg.get(f'{args.split}_dataloader')
    if not loader:
        raise ConfigError(f'the configuration has no {args.split}_dataloader')
    with quiet_imports():
        from mmengine.registry import init_default_scope
        from mmengine.runner import set_random_seed

        import isda_suite.datasets  # noqa: F401  (loads mmdet's data sets, which print lines)
        from isda_suite.apis.annotated_pipelines import with_annotations
        from isda_suite.registry import DATASETS
        from isda_suite.visualization import draw_samples

    init_default_scope(cfg.get('default_scope', 'mmdet'))
    set_random_seed(args.seed)
    dataset = DATASETS.build(with_annotations(loader.dataset))
    written = draw_samples(dataset, args.output_dir, args.num)
    print(f'{len(written) - 1} samples drawn, overview in {written[-1]}')


if __name__ == '__main__':
    leave(run_tool(main))
