"""Encodings, encoders and the decoder, against their written-out definitions."""

import math

import pytest
import torch
from mmdet.models.layers import (
    DeformableDetrTransformerEncoder,
    DetrTransformerDecoder,
    DetrTransformerEncoder,
)

from isda_suite.layers.errors import ModelConfigError
from isda_suite.methods.defvistr.decoder import (
    SlotDecoder,
    frames_to_instances,
    slots_to_instances,
)
from isda_suite.methods.defvistr.encoder import (
    DenseClipEncoder,
    FramesAsLevelsEncoder,
    reference_points,
)
from isda_suite.methods.defvistr.options import TransformerOptions
from isda_suite.methods.defvistr.position_encoding import encode_clip, encode_grid

OPTIONS = TransformerOptions(
    embed_dims=24, num_heads=4, num_points=2, feedforward_channels=16, encoder_layers=2,
    decoder_layers=2, dropout=0.0,
)  # fmt: skip
FFN = dict(embed_dims=24, feedforward_channels=16)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_the_clip_encoding_is_the_formula_axis_by_axis():
    padding = torch.zeros(1, 4, 3, 5, dtype=torch.bool)
    padding[..., 4] = True
    encoded = encode_clip(padding, 24)[0]
    assert encoded.shape == (4, 24, 3, 5) and encoded.dtype == torch.float32
    t, y, x = 2, 1, 3
    for axis, place in enumerate(((t + 1) / 4, (y + 1) / 3, (x + 1) / 4)):
        for i in range(8):
            angle = 2 * math.pi * place / 10000 ** (2 * (i // 2) / 8)
            want = math.cos(angle) if i % 2 else math.sin(angle)
            assert float(encoded[t, 8 * axis + i, y, x]) == pytest.approx(want, abs=1e-5)


def test_the_grid_encoding_is_row_then_column():
    encoded = encode_grid(2, 5, 12, torch.device('cpu'))
    assert encoded.shape == (10, 12)
    assert float(encoded[3, 0]) == pytest.approx(math.sin(2 * math.pi / 2), abs=1e-5)
    assert float(encoded[3, 6]) == pytest.approx(math.sin(2 * math.pi * 4 / 5), abs=1e-5)
    with pytest.raises(ModelConfigError, match='multiple of 4'):
        encode_grid(2, 5, 10, torch.device('cpu'))


def test_tokens_look_at_the_same_place_of_every_level():
    """A token-grid token (slot s, column c) looks at ((c + 1/2) / 5, (s + 1/2) / 2)."""
    ratios = torch.tensor([[[1.0, 1.0], [0.5, 1.0], [1.0, 1.0]]])
    points = reference_points([(2, 4), (2, 4), (2, 5)], ratios)
    assert points.shape == (1, 26, 3, 2)
    assert points[0, 16 + 5 + 3, 0].tolist() == pytest.approx([0.7, 0.75])
    assert points[0, 6, :, 0].tolist() == pytest.approx([0.625, 0.3125, 0.625])
    # In the second frame half of the columns are padding: the second one is the place 3/4.
    assert points[0, 9, :, 0].tolist() == pytest.approx([0.75, 0.375, 0.75])


@pytest.mark.filterwarnings('ignore:You.d better set embed_dims', 'ignore:torch.meshgrid')
def test_the_deformable_encoder_equals_mmdets():
    encoder = FramesAsLevelsEncoder(OPTIONS, num_frames=3, token_grid=(2, 5)).eval()
    encoder.init_weights()
    for layer in encoder.layers:
        torch.nn.init.normal_(layer.self_attn.attention_weights.weight, std=0.3)
    attention = dict(embed_dims=24, num_heads=4, num_levels=4, num_points=2, batch_first=True)
    theirs = DeformableDetrTransformerEncoder(
        num_layers=2, layer_cfg=dict(self_attn_cfg=attention, ffn_cfg=FFN)
    ).eval()
    theirs.load_state_dict(encoder.state_dict())
    query, pos = torch.randn(2, 46, 24), torch.randn(2, 46, 24)
    padding = torch.zeros(2, 3, 3, 4, dtype=torch.bool)
    padding[1, :, :, 3] = True
    hidden = torch.cat((padding.flatten(1), padding.new_zeros(2, 10)), 1)
    with torch.no_grad():
        want = theirs(
            query, pos, hidden, torch.tensor([(3, 4)] * 3 + [(2, 5)]),
            torch.tensor([0, 12, 24, 36]), encoder.valid_ratios(padding),
        )  # fmt: skip
        torch.testing.assert_close(encoder(query, pos, padding), want, rtol=1e-4, atol=1e-5)


def test_the_dense_encoder_equals_mmdets():
    encoder = DenseClipEncoder(OPTIONS).eval()
    theirs = DetrTransformerEncoder(
        num_layers=2,
        layer_cfg=dict(self_attn_cfg=dict(embed_dims=24, num_heads=4), ffn_cfg=FFN),
    ).eval()
    theirs.load_state_dict(encoder.state_dict())
    query, pos = torch.randn(2, 36, 24), torch.randn(2, 36, 24)
    padding = torch.zeros(2, 3, 3, 4, dtype=torch.bool)
    padding[1, :, :, 3] = True
    with torch.no_grad():
        want = theirs(query, pos, padding.flatten(1))
        torch.testing.assert_close(encoder(query, pos, padding), want, rtol=1e-4, atol=1e-5)


def _mmdet_decoder(decoder):
    attention = dict(embed_dims=24, num_heads=4)
    theirs = DetrTransformerDecoder(
        num_layers=2,
        layer_cfg=dict(self_attn_cfg=attention, cross_attn_cfg=attention, ffn_cfg=FFN),
    ).eval()
    theirs.load_state_dict(decoder.state_dict())
    return theirs


@pytest.mark.parametrize('padded', [False, True])
def test_slots_together_equal_slots_one_after_the_other(padded):
    """Each slot sees the frames and its own tokens; mmdet's decoder runs once per slot."""
    slots, own, tokens, queries = 3, 4, 12, 5
    decoder = SlotDecoder(OPTIONS, slots, own).eval()
    theirs = _mmdet_decoder(decoder)
    memory, pos = (torch.randn(2, tokens + slots * own, 24) for _ in range(2))
    query_pos = torch.randn(queries, 24)
    hidden = torch.zeros(2, tokens, dtype=torch.bool)
    hidden[1, 9:] = padded
    with torch.no_grad():
        got = decoder(query_pos, memory, pos, hidden if padded else None)
        assert got.shape == (2, 2, slots, queries, 24)
        for slot in range(slots):
            start = tokens + slot * own
            seen = [*range(tokens), *range(start, start + own)]
            mask = torch.cat((hidden, hidden.new_zeros(2, own)), 1)
            want = theirs(
                query=torch.zeros(2, queries, 24), key=memory[:, seen], value=memory[:, seen],
                query_pos=query_pos.expand(2, -1, -1), key_pos=pos[:, seen], key_padding_mask=mask,
            )  # fmt: skip
            torch.testing.assert_close(got[:, :, slot], want, rtol=1e-4, atol=1e-5)


def test_tokens_of_other_slots_have_no_gradient():
    decoder = SlotDecoder(OPTIONS, 3, 4)
    memory = torch.randn(1, 24, 24, requires_grad=True)
    output = decoder(torch.randn(5, 24), memory, torch.zeros_like(memory))
    (output[-1, 0, 1] * torch.randn(5, 24)).sum().backward()
    own = torch.zeros(24, dtype=torch.bool)
    own[:12] = own[16:20] = True
    assert torch.equal(memory.grad[0].abs().sum(-1) > 0, own)


def test_layouts_of_slots_and_of_frames():
    slots, frames = 2, 3
    output = torch.arange(slots * frames).view(1, 1, slots, frames, 1)  # slot * 3 + query
    assert slots_to_instances(output, frames, 'instance_major') is output
    mixed = slots_to_instances(output, frames, 'interleaved')[0, 0, :, :, 0]
    for instance in range(slots):
        for frame in range(frames):
            k = instance * frames + frame
            assert int(mixed[instance, frame]) == (k % slots) * frames + k // slots
    rows = torch.arange(6).view(1, 1, 1, 6, 1)
    assert frames_to_instances(rows, frames)[0, 0, :, :, 0].tolist() == [[0, 2, 4], [1, 3, 5]]


def test_initialisation_is_the_published_one():
    encoder = FramesAsLevelsEncoder(OPTIONS, num_frames=3)
    encoder.init_weights()
    attention = encoder.layers[1].self_attn
    assert not attention.sampling_offsets.weight.any()
    assert not attention.attention_weights.weight.any() and not attention.value_proj.bias.any()
    bias = attention.sampling_offsets.bias.view(4, 3, 2, 2)
    torch.testing.assert_close(bias[1, 2], torch.tensor([[0.0, 1.0], [0.0, 2.0]]))
    bound = math.sqrt(6 / (24 + 16))
    weight = encoder.layers[0].ffn.layers[0][0].weight.detach()
    assert 0.9 * bound < float(weight.abs().max()) <= bound
