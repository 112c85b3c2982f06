"""Draw the samples of a data set as the model gets them, after augmentation, into a folder."""

import argparse

from isda_suite.engine.arguments import add_config, add_config_options
from isda_suite.engine.exit_codes import leave, run_tool


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_config(parser)
    parser.add_argument('--split', choices=('train', 'val', 'test'), default='train')
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
        from isda_suite.registry import DATASETS
        from isda_suite.visualization import draw_samples

    init_default_scope(cfg.get('default_scope', 'mmdet'))
    set_random_seed(args.seed)
    dataset = DATASETS.build(_with_annotations(loader.dataset))
    written = draw_samples(dataset, args.output_dir, args.num)
    print(f'{len(written) - 1} samples drawn, overview in {written[-1]}')


def _with_annotations(dataset_cfg: dict) -> dict:  # type: ignore[type-arg]
    """Load the annotations of test pipelines too, which leave them out; also of wrapped data."""
    if 'datasets' in dataset_cfg:
        parts = [_with_annotations(one) for one in dataset_cfg['datasets']]
        return {**dataset_cfg, 'datasets': parts}
    if 'dataset' in dataset_cfg:
        return {**dataset_cfg, 'dataset': _with_annotations(dataset_cfg['dataset'])}
    pipeline = dataset_cfg.get('pipeline')
    if not pipeline:
        return dataset_cfg
    for place, step in enumerate(pipeline):
        if 'TransformBroadcaster' in str(step['type']):  # frames of a clip
            load = {'type': 'isda_suite.LoadClipAnnotations'}
            step = {**step, 'transforms': _with_loader(step['transforms'], load)}
            changed = [*pipeline[:place], step, *pipeline[place + 1 :]]
            return {**dataset_cfg, 'pipeline': changed}
    load = _loader_for(dataset_cfg)
    return {**dataset_cfg, 'pipeline': _with_loader(pipeline, load)}


def _loader_for(dataset_cfg: dict) -> dict:  # type: ignore[type-arg]
    """Return the step that loads what is annotated: class maps, or instances."""
    from isda_suite.engine.type_checks import registered_class

    bases = getattr(registered_class(dataset_cfg['type'], 'DATASETS'), '__mro__', ())
    if not any(base.__name__ == 'BaseSegDataset' for base in bases):
        return {'type': 'LoadAnnotations', 'with_bbox': True, 'with_mask': True}
    ours = any(base.__module__.startswith('isda_suite.') for base in bases)
    return {'type': 'isda_suite.LoadSegLabels' if ours else 'mmseg.LoadAnnotations'}


def _with_loader(steps: list, load: dict) -> list:  # type: ignore[type-arg]
    loaders = ('Annotations', 'LoadPolygons', 'LoadSegLabels')
    if any(str(step['type']).endswith(loaders) for step in steps):
        return steps
    return [steps[0], load, *steps[1:]]


if __name__ == '__main__':
    leave(run_tool(main))
