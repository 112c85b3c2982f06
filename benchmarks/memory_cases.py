"""What `memory_estimate.py` compares: configurations that read generated data of a stated size."""

import copy
from pathlib import Path
from typing import Any, NamedTuple

# The states of the optimizer are there from the second step on.
_STEPS = 3


class Case(NamedTuple):
    """A configuration and how it runs.

    Args:
        config: Its name.
        data: The format of the sample that it reads.
        size_hw: Of its images or frames; None leaves the pipeline as it is.
        batch_size: Of the training and the test; None takes that of the configuration.
        workers: Data loading processes.
    """

    config: str
    data: str = 'coco'
    size_hw: tuple[int, int] | None = None
    batch_size: int | None = None
    workers: int = 0

    @property
    def name(self) -> str:
        """Short, and different for every case."""
        size = '' if self.size_hw is None else '_{}x{}'.format(*self.size_hw)
        batch = '' if self.batch_size is None else f'_b{self.batch_size}'
        return f'{self.config}{size}{batch}_w{self.workers}'

    @property
    def steps(self) -> int:
        """Of a training. Workers of the validation after the second keep what the third changes."""
        return _STEPS + bool(self.workers)


SAMPLES = (
    Case('isda_sample'),
    Case('isda_sample', batch_size=12),
    Case('isda_sample', workers=2),
    Case('idip_sample'),
    Case('isdnet_r18_sample', 'semantic'),
    Case('isdnet_r18_sample', 'semantic', (256, 256), batch_size=8, workers=2),
    Case('defvistr_sample', 'youtube_vis'),
    Case('iuq_solov2-r18_sample'),
    Case('sotr_sample'),
    Case('solq_sample'),
)
FULL = (
    Case('isda_r50_3x_coco', size_hw=(512, 640), batch_size=1),
    Case('isda_r50_3x_coco', size_hw=(384, 384), batch_size=2, workers=2),
    Case('idip_r50_2xb8-90k_coco', size_hw=(512, 640), batch_size=2),
    Case('isdnet_1224x1224_80k_deepglobe', 'semantic', (768, 768), batch_size=2),
    Case('isdnet_r50_custom_seg', 'semantic', (512, 512), batch_size=2, workers=2),
    Case('defvistr_r50_4xb1-60e_youtube-vis-2019', 'youtube_vis', (96, 160), batch_size=1),
    Case('iuq_solov2-r50_8xb2-36e_coco', size_hw=(384, 512), batch_size=1),
    Case('sotr_r50_4xb2-300k_coco', size_hw=(384, 448), batch_size=1),
    Case('solq_r50_8xb4-50e_coco', size_hw=(384, 512), batch_size=1),
)
CASES = SAMPLES + FULL

_SAMPLES = {
    'coco': ('isda/isda_sample.py', 'mmdet.Resize'),
    'semantic': ('isdnet/isdnet_r18_sample.py', 'mmseg.Resize'),
    'youtube_vis': ('defvistr/defvistr_sample.py', 'mmdet.Resize'),
}


def write_case(case: Case, data: Path, path: Path) -> None:
    """Write a configuration file: the model of a case, the sample's data, a few steps.

    Args:
        case: What to write.
        data: Folder of the sample.
        path: The file.
    """
    from isda_suite.engine.config_file import read_config

    cfg = read_config(case.config)
    sample = read_config(_SAMPLES[case.data][0])
    cfg.model = _at_random(cfg.model)
    for kind in ('train', 'val', 'test'):
        loader = copy.deepcopy(sample[f'{kind}_dataloader'])
        old = cfg[f'{kind}_dataloader']
        loader.batch_size = case.batch_size or old.get('batch_size', 1)
        loader.num_workers, loader.persistent_workers = case.workers, bool(case.workers)
        loader.dataset.data_root = f'{data}/'
        _set_clip_length(loader.dataset, cfg.model.get('num_frames'))
        if case.size_hw is not None:
            _resize(loader.dataset.pipeline, case.size_hw, _SAMPLES[case.data][1], kind == 'train')
            preprocessor = cfg.model.get('data_preprocessor') or {}
            if 'size' in preprocessor:
                preprocessor['size'] = case.size_hw
        cfg[f'{kind}_dataloader'] = loader
    cfg.val_evaluator = cfg.test_evaluator = sample.test_evaluator
    interval = 2 if case.workers else case.steps
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=case.steps, val_interval=interval)
    cfg.val_cfg, cfg.test_cfg = dict(type='ValLoop'), dict(type='TestLoop')
    cfg.param_scheduler = []
    cfg.optim_wrapper.optimizer.lr = 1e-7  # random weights, no warm-up: nothing is to be learnt
    for name in ('default_hooks', 'log_processor'):
        cfg[name] = sample[name]
    cfg.sync_bn = None
    path.write_text(cfg.pretty_text)


def _at_random(node: Any) -> Any:
    """Return a model without pretrained weights and with the classes of its data."""
    if isinstance(node, dict):
        node = {key: _at_random(value) for key, value in node.items()}
        if (node.get('init_cfg') or {}).get('type') == 'Pretrained':
            node['init_cfg'] = None
        if 'num_classes' in node:
            node['num_classes'] = 'from_data'
        return node
    return [_at_random(value) for value in node] if isinstance(node, list) else node


def _set_clip_length(dataset: Any, number: int | None) -> None:
    if number is None:
        return
    if 'clip_len' in dataset:
        dataset.clip_len, dataset.overlap = number, number // 2
    for step in dataset.pipeline:
        if 'num_frames' in step:
            step.num_frames = number


def _resize(steps: list[Any], size_hw: tuple[int, int], kind: str, training: bool) -> None:
    """Let a pipeline make images of one size.

    The step comes after the last that loads something; in a test after the image, because labels
    keep their size there.
    """
    for step in steps:
        if 'transforms' in step:
            return _resize(step.transforms, size_hw, kind, training)
    steps[:] = [step for step in steps if not step.type.endswith('Resize')]
    loads = [number for number, step in enumerate(steps) if '.Load' in f'.{step.type}']
    steps.insert(
        (loads[-1] if training else loads[0]) + 1,
        dict(type=kind, scale=size_hw[::-1], keep_ratio=False),
    )
    return None
