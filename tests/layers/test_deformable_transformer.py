"""Our encoder and decoder give what mmdet's give, under the same names."""

import pytest
import torch
from mmdet.models.layers import (
    DeformableDetrTransformerDecoder,
    DeformableDetrTransformerEncoder,
)

from isda_suite.layers import DeformableTransformerDecoder, DeformableTransformerEncoder
from isda_suite.layers.deformable_transformer import init_deformable_attention
from isda_suite.layers.errors import ModelConfigError
from isda_suite.ops import MultiScaleDeformableAttention

DEFORMABLE = dict(embed_dims=16, num_heads=2, num_levels=2, num_points=2, batch_first=True)
FFN = dict(embed_dims=16, feedforward_channels=16)
SHAPES = torch.tensor([[6, 8], [3, 4]])
STARTS = torch.tensor([0, 48])


def encoder_cfg(**changes):
    layer = dict(self_attn_cfg=DEFORMABLE, ffn_cfg=FFN)
    return {'num_layers': 2, 'layer_cfg': layer, 'num_cp': 0, **changes}


def decoder_cfg(**changes):
    attention = dict(embed_dims=16, num_heads=2, batch_first=True)
    layer = dict(self_attn_cfg=attention, cross_attn_cfg=DEFORMABLE, ffn_cfg=FFN)
    return {
        'num_layers': 2, 'layer_cfg': layer, 'return_intermediate': True, 'post_norm_cfg': None,
        **changes,
    }  # fmt: skip


def pair(ours, theirs, cfg):
    """Build both with the same random parameters."""
    torch.manual_seed(0)
    first, second = ours(**cfg()).eval(), theirs(**cfg()).eval()
    for value in first.parameters():
        torch.nn.init.normal_(value, std=0.2)
    assert first.state_dict().keys() == second.state_dict().keys()
    second.load_state_dict(first.state_dict())
    return first, second


def test_the_encoder_agrees_with_mmdet():
    first, second = pair(
        DeformableTransformerEncoder, DeformableDetrTransformerEncoder, encoder_cfg
    )
    inputs = dict(
        query=torch.randn(2, 60, 16), query_pos=torch.randn(2, 60, 16),
        key_padding_mask=torch.zeros(2, 60, dtype=torch.bool), spatial_shapes=SHAPES,
        level_start_index=STARTS, valid_ratios=torch.tensor([[[1.0, 0.8]] * 2, [[0.9, 1.0]] * 2]),
    )  # fmt: skip
    torch.testing.assert_close(first(**inputs), second(**inputs), rtol=1e-5, atol=1e-6)


def test_the_decoder_agrees_with_mmdet():
    first, second = pair(
        DeformableTransformerDecoder, DeformableDetrTransformerDecoder, decoder_cfg
    )
    inputs = dict(
        query=torch.randn(2, 5, 16), query_pos=torch.randn(2, 5, 16), value=torch.randn(2, 60, 16),
        key_padding_mask=None, reference_points=torch.rand(2, 5, 2), spatial_shapes=SHAPES,
        level_start_index=STARTS, valid_ratios=torch.ones(2, 2, 2), reg_branches=None,
    )  # fmt: skip
    for ours, theirs in zip(first(**inputs), second(**inputs), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_the_attention_is_ours_and_starts_as_published():
    encoder = DeformableTransformerEncoder(**encoder_cfg())
    init_deformable_attention(encoder)
    found = [m for m in encoder.modules() if isinstance(m, MultiScaleDeformableAttention)]
    assert len(found) == 2
    for attention in found:
        assert (attention.sampling_offsets.weight == 0).all()
        offsets = attention.sampling_offsets.bias.view(2, 2, 2, 2)
        # Head 0 looks right, head 1 left; the points are 1 and 2 cells away, on every level.
        assert offsets[0, :, :, 0].tolist() == [[1, 2]] * 2
        assert offsets[1, :, :, 0].flatten().tolist() == pytest.approx([-1, -2] * 2)


def test_options_that_do_not_work_are_refused():
    with pytest.raises(ModelConfigError, match='activation_checkpointing'):
        DeformableTransformerEncoder(**encoder_cfg(num_cp=1))
    with pytest.raises(ModelConfigError, match='no final norm'):
        DeformableTransformerDecoder(**decoder_cfg(post_norm_cfg=dict(type='LN')))
