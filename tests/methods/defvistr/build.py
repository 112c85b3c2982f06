"""Build DefVisTR from the settings of a golden file, or a small one for behaviour tests."""

import torch
from mmdet.structures import DetDataSample, TrackDataSample
from mmengine.registry import DefaultScope

from isda_suite.checkpoint.renaming import convert_state_dict
from isda_suite.methods.defvistr.convert import ORIGINAL
from isda_suite.registry import MODELS

TRANSFORMER = {
    'embed_dims': 'embed_dims', 'num_heads': 'num_heads', 'num_points': 'num_points',
    'feedforward_channels': 'feedforward_channels', 'encoder_layers': 'encoder_layers',
    'decoder_layers': 'decoder_layers', 'tokens_per_slot': 'tokens_per_instance',
    'dropout': 'dropout',
}  # fmt: skip


def model_config(c):
    """Return a configuration with the settings of a golden file."""
    layout = {'query_layout': c['query_layout']} if c['variant'] == 'instance_token' else {}
    return dict(
        type='isda_suite.DefVisTR',
        variant=c['variant'],
        num_frames=c['num_frames'],
        num_instances=c.get('num_slots', c.get('queries_per_frame')),
        num_queries=c['num_queries'],
        backbone=dict(
            type='ResNet', depth=c['depth'], num_stages=4, out_indices=(0, 1, 2, 3),
            frozen_stages=1, norm_cfg=dict(type='BN', requires_grad=False), norm_eval=True,
            style='pytorch',
        ),
        transformer={ours: c[name] for name, ours in TRANSFORMER.items() if name in c},
        head=dict(type='isda_suite.DefVisTRHead', num_classes=c['num_logits'] - 2, mask_branch={}),
        **layout,
    )  # fmt: skip


def build_defvistr(c):
    """Build the model of a golden file's settings."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(model_config(c)).eval()


def load_original(model, params, prefix='', target=''):
    """Load parameters under original names; those of the backbone may be missing.

    Names of a part lack the ``prefix`` of whole checkpoints, and the part's own names the
    ``target``.
    """
    state = {prefix + name: torch.from_numpy(value) for name, value in params.items()}
    converted, _ = convert_state_dict(state, ORIGINAL)
    ours = {name.removeprefix(target): value for name, value in converted.items()}
    missing, unexpected = model.load_state_dict(ours, strict=False)
    assert not unexpected
    assert not [name for name in missing if not name.startswith('backbone.')] or not prefix
    expected = {name for name in missing if not name.endswith('num_batches_tracked')}
    if any(name.startswith('backbone.') for name in ours):
        assert not expected
    else:
        assert all(name.startswith('backbone.') for name in expected)


def small_config(variant='instance_token', **changes):
    """Return the configuration of a small model: 3 frames, 2 instances, 4 classes."""
    transformer = dict(
        in_channels=128, embed_dims=96, num_heads=4, num_points=2, feedforward_channels=64,
        encoder_layers=2, decoder_layers=2,
    )  # fmt: skip
    if variant == 'instance_token':
        transformer['tokens_per_instance'] = 3
    transformer.update(changes.pop('transformer', {}))
    branch = dict(in_channels=(16, 32, 64), num_groups=2, num_clip_groups=1)
    head = dict(type='isda_suite.DefVisTRHead', num_classes=4, mask_branch=branch)
    head.update(changes.pop('head', {}))
    return dict(
        type='isda_suite.DefVisTR',
        variant=variant,
        num_frames=3,
        num_instances=2,
        backbone=dict(
            type='ResNet', depth=18, base_channels=16, num_stages=4, out_indices=(0, 1, 2, 3),
            norm_eval=True, style='pytorch',
        ),
        transformer=transformer,
        head=head,
        train_cfg=dict(assigner=dict(type='isda_suite.SequenceHungarianAssigner')),
    ) | changes  # fmt: skip


def small_defvistr(variant='instance_token', **changes):
    """Build and initialise a small model."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(small_config(variant, **changes))
    model.init_weights()
    return model


def clip_samples(img_shapes, num_frames=3, batch_input_shape=(64, 96)):
    """Make data samples of clips whose frames have the given sizes."""
    return [
        TrackDataSample(
            video_data_samples=[
                DetDataSample(metainfo={'img_shape': size, 'batch_input_shape': batch_input_shape})
                for _ in range(num_frames)
            ]
        )
        for size in img_shapes
    ]
