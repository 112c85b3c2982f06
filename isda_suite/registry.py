"""Registries of isda_suite: children of mmengine's root under the scope ``isda_suite``.

Configs keep ``default_scope='mmdet'`` (instances, video) or ``'mmseg'`` (semantic) and write our
types as ``isda_suite.Name``; unprefixed types then resolve in their own library. A child of
mmdet's registry would not be found from mmseg's scope, so the parents are mmengine's.
``locations`` are imported by the registry on the first look-up, so nothing is imported eagerly.
"""

from mmengine import registry as root
from mmengine.registry import Registry

SCOPE = 'isda_suite'

_MODEL_PLACES = [
    'isda_suite.ops',
    'isda_suite.layers',
    'isda_suite.losses',
    'isda_suite.methods',
]


def _child(name: str, parent: Registry, locations: list[str]) -> Registry:
    return Registry(name, parent=parent, scope=SCOPE, locations=locations)


MODELS = _child('model', root.MODELS, _MODEL_PLACES)
TASK_UTILS = _child('task util', root.TASK_UTILS, ['isda_suite.matchers', 'isda_suite.methods'])
DATASETS = _child('dataset', root.DATASETS, ['isda_suite.datasets'])
DATA_SAMPLERS = _child('data sampler', root.DATA_SAMPLERS, ['isda_suite.datasets'])
TRANSFORMS = _child('transform', root.TRANSFORMS, ['isda_suite.datasets.transforms'])
# Those of the last two write files, so they lie above the metrics that only compute.
METRICS = _child(
    'metric',
    root.METRICS,
    [
        'isda_suite.metrics',
        'isda_suite.apis.reports.segmentation_report',
        'isda_suite.apis.videos.youtube_vis_metric',
    ],
)
HOOKS = _child('hook', root.HOOKS, ['isda_suite.engine.hooks'])
OPTIM_WRAPPERS = _child('optimizer wrapper', root.OPTIM_WRAPPERS, ['isda_suite.engine.amp'])
VISUALIZERS = _child('visualizer', root.VISUALIZERS, ['isda_suite.visualization'])
