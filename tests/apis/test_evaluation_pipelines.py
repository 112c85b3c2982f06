import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope

from isda_suite.apis.evaluation_pipelines import mirrored_views, require_labels
from isda_suite.engine.errors import ConfigError
from isda_suite.resources import resource_root
from tests.engine.toy_segmentor import ToyStem

ISDNET = sorted((resource_root() / 'configs/isdnet').glob('*.py'))
LOAD, LABELS, PACK = (
    dict(type=f'isda_suite.{name}') for name in ('LoadImage', 'LoadSegLabels', 'PackSegInputs')
)


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@pytest.mark.parametrize('file', ISDNET, ids=[file.stem for file in ISDNET])
def test_every_isdnet_is_mirrored_by_the_steps_of_its_test_pipeline(file):
    """The reduction to 0.8 and the number of classes are among those steps."""
    cfg = Config.fromfile(file)
    assert cfg.tta_model and not cfg.get('tta_pipeline')
    plain = cfg.test_dataloader.dataset.pipeline
    *shared, views = mirrored_views(plain)
    flips, *rest = views['transforms']
    assert [*shared, *(step for (step,) in rest)] == plain
    assert [(flip['type'], flip['prob']) for flip in flips] == [
        ('RandomFlip', 0),
        ('RandomFlip', 1),
    ]
    assert rest[0][0]['type'] == 'isda_suite.LoadSegLabels', 'labels are loaded as they are'


def test_what_is_mirrored_says_so_to_the_model_whatever_is_packed():
    pack = dict(PACK, meta_keys=('img_path', 'flip'))
    views = mirrored_views([LOAD, pack])[-1]['transforms']
    assert views[1:] == [[dict(PACK, meta_keys=('img_path', 'flip', 'flip_direction'))]]
    assert pack['meta_keys'] == ('img_path', 'flip'), 'the configuration keeps its own'


def _cfg(pipeline, **metric):
    return Config(
        dict(
            test_dataloader=dict(dataset=dict(pipeline=pipeline)),
            test_evaluator=[{'type': 'IoUMetric', **metric}],
        )
    )


@pytest.mark.parametrize(
    ('pipeline', 'metric'),
    [
        ([LOAD, LABELS, PACK], {}),
        ([LOAD, dict(type='LoadAnnotations'), PACK], {}),
        ([LOAD, dict(type='TestTimeAug', transforms=[[LABELS], [PACK]])], {}),
        ([LOAD, dict(type=ToyStem), PACK], {}),
        ([LOAD, PACK], {'format_only': True}),
        ([LOAD, PACK], {'type': 'CityscapesMetric'}),
    ],
    ids=['ours', 'stock', 'nested', 'foreign step', 'format only', 'reads files itself'],
)
def test_labels_that_are_loaded_or_not_needed_are_no_error(pipeline, metric):
    require_labels(_cfg(pipeline, **metric), 'test')
    require_labels(_cfg(pipeline, **metric), 'val')


@pytest.mark.parametrize('metric', ['IoUMetric', 'isda_suite.IoUMetric'])
def test_a_metric_without_labels_names_the_step_to_add(metric):
    with pytest.raises(ConfigError, match=rf'needed by {metric}: add .*LoadSegLabels.* before'):
        require_labels(_cfg([LOAD, PACK], type=metric), 'test')
