import pytest
from mmengine.config import Config

from isda_suite.engine.errors import ConfigError
from isda_suite.engine.launch import explained
from isda_suite.engine.type_checks import arguments_of, check_types


def _cfg(**parts):
    return Config({'default_scope': 'mmdet', **parts})


def test_what_is_registered_passes():
    check_types(
        _cfg(
            model={
                'type': 'isda_suite.ISDA',
                'backbone': {'type': 'mmdet.ResNet', 'norm_cfg': {'type': 'BN'}},
                'train_cfg': {'assigner': {'type': 'HungarianAssigner'}},
                'test_cfg': {'nms': {'type': 'soft_nms'}},
                'init_cfg': {'type': 'Pretrained', 'checkpoint': 'x'},
            },
            train_dataloader={
                'sampler': {'type': 'DefaultSampler'},
                'dataset': {
                    'type': 'isda_suite.CocoInstanceDataset',
                    'pipeline': [{'type': 'Albu', 'transforms': [{'type': 'NotOurs'}]}],
                },
            },
            default_hooks={'param_scheduler': {'type': 'ParamSchedulerHook', 'priority': 1}},
            optim_wrapper={'type': 'isda_suite.AmpOptimWrapper', 'optimizer': {'type': 'AdamW'}},
            train_cfg={'type': 'EpochBasedTrainLoop', 'max_epochs': 1},
        )
    )


@pytest.mark.parametrize(
    ('parts', 'message'),
    [
        ({'model': {'type': 'isda_suite.ISDAA'}}, r"model\.type.*did you mean 'isda_suite\.ISDA'"),
        ({'model': {'type': 'ISDA'}}, r"did you mean 'isda_suite\.ISDA'"),
        ({'model': {'x': {'type': 'ResNett'}}}, r"model\.x\.type.*did you mean 'ResNet'"),
        (
            {'train_dataloader': {'dataset': {'type': 'X', 'pipeline': [{'type': 'Resise'}]}}},
            r"pipeline\.0\.type: 'Resise'.*TRANSFORMS.*'Resize'",
        ),
        ({'val_evaluator': {'type': 'CocoMetrik'}}, r"METRICS.*did you mean 'CocoMetric'"),
        (
            {'model': {'type': 'ResNet', 'out_indicies': (0,)}},
            r"ResNet has no argument 'out_indicies', did you mean 'out_indices'",
        ),
        (
            {'model': {'type': 'isda_suite.ISDAHead', 'num_clases': 3}},
            r"did you mean 'num_classes'",
        ),
    ],
)
def test_a_wrong_name_is_refused_with_place_and_nearest(parts, message):
    with pytest.raises(ConfigError, match=message):
        check_types(_cfg(**parts))


def test_everything_wrong_is_listed_at_once():
    with pytest.raises(ConfigError, match=r'(?s)ResNett.*Resise'):
        check_types(_cfg(model={'type': 'ResNett'}, custom_hooks=[{'type': 'Resise'}]))


def test_arguments_of_base_classes_are_found():
    class Base:
        def __init__(self, a):
            pass

    class Child(Base):
        def __init__(self, b, *args, **kwargs):
            super().__init__(**kwargs)

    class Closed(Child):
        def __init__(self, c):
            super().__init__(c, a=1)

    assert arguments_of(Child) == ['b', 'a']
    assert arguments_of(Closed) == ['c']


def test_an_argument_refused_while_building_is_explained():
    from mmengine.registry import MODELS

    cfg = _cfg(model={'type': 'mmdet.ResNet', 'depth': 18, 'colour': 3})
    with pytest.raises(ConfigError, match=r"model\.colour: ResNet has no argument 'colour'; it "):
        with explained(cfg):
            MODELS.build(dict(cfg.model))


def test_an_error_of_other_code_is_left_alone():
    with pytest.raises(TypeError, match='unexpected'):
        with explained(_cfg(model={})):
            (lambda: 0)(batch=1)  # type: ignore[call-arg]
