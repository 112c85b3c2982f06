"""Runners of the forward passes, of the encoder alone and of what follows the backbone.

A runner takes (golden, case, tmp_path) and returns full results by the names of the outputs.
"""

from functools import cache

import numpy as np
import torch

from isda_suite.methods.defvistr.encoder import FramesAsLevelsEncoder, reference_points
from isda_suite.methods.defvistr.options import TransformerOptions
from isda_suite.methods.defvistr.position_encoding import encode_clip
from tests.methods.defvistr.build import build_defvistr, load_original


@cache
def _model(variant, depth, *sizes):
    return build_defvistr(dict(sizes) | {'variant': variant, 'depth': depth})


def _loaded(case):
    """Fill one model per variant again and again: building takes longer than loading."""
    c = case.config
    names = (
        'num_frames', 'embed_dims', 'num_heads', 'feedforward_channels', 'encoder_layers',
        'decoder_layers', 'num_logits', 'num_queries', 'num_slots', 'queries_per_frame',
        'tokens_per_slot', 'num_points', 'query_layout', 'dropout',
    )  # fmt: skip
    sizes = tuple((name, c[name]) for name in names if name in c)
    model = _model(c['variant'], c['depth'], *sizes)
    load_original(model, case.params())
    return model


def _file_order(values, order):
    """Bring (B, K, T, ...) to the (B, outputs, ...) of the file."""
    if order == 'frame_major':
        values = values.transpose(1, 2)
    return values.flatten(1, 2)


def _heads(case, model, state):
    order = case.config['output_order']
    logits, boxes = model.head(state[0])
    masks = model.head.masks(*state)
    return {
        'pred_logits': _file_order(logits[-1], order),
        'pred_boxes': _file_order(boxes[-1], order),
        'pred_masks': _file_order(masks, order),
        'aux_logits': torch.stack([_file_order(x, order) for x in logits[:-1]]),
        'aux_boxes': torch.stack([_file_order(x, order) for x in boxes[:-1]]),
    }


@torch.no_grad()
def run_forward(golden, case, tmp_path):
    """Clip to raw outputs."""
    model = _loaded(case)
    clip = torch.from_numpy(case.inputs()['clip'])[None]
    hidden, memory, feats, padding = model._run(clip, None)
    return _heads(case, model, (hidden, memory, feats, padding))


@torch.no_grad()
def run_head(golden, case, tmp_path):
    """Maps of the backbone, with padding, to raw outputs."""
    model = _loaded(case)
    inputs = {k: torch.from_numpy(v) for k, v in case.inputs().items()}
    feats = [inputs[f'feat{i}'] for i in range(4)]
    padding = inputs['mask3'].bool()[None]
    hidden, memory = model.forward_transformer(feats, padding)
    tokens, _ = model.encode(feats, padding)
    maps = model.head.mask_branch.bbox_attention(hidden[-1], memory, padding)
    slots = model.variant.slots
    return _heads(case, model, (hidden, memory, feats, padding)) | {
        'pos': encode_clip(padding, case.config['embed_dims'])[0],
        'memory': tokens[0],
        'att': maps[0, :1].transpose(0, 1) if slots else maps[0].transpose(0, 1),
    }


def run_encoder(golden, case, tmp_path):
    """Tokens to memory and gradients."""
    c = case.config
    names = TransformerOptions.__dataclass_fields__
    options = TransformerOptions(**{k: v for k, v in c.items() if k in names}, encoder_cp=False)
    encoder = FramesAsLevelsEncoder(options, c['num_frames']).train()
    load_original(encoder, case.params(), prefix='vistr.transformer.encoder.', target='encoder.')
    inputs = {k: torch.from_numpy(np.asarray(v)) for k, v in case.inputs().items()}
    src, pos, padding = inputs['src'].requires_grad_(), inputs['pos'], inputs['mask'].bool()[None]
    shapes = [tuple(shape) for shape in inputs['spatial_shapes'].tolist()]
    assert encoder.level_shapes(padding) == shapes
    points = reference_points(shapes, encoder.valid_ratios(padding))
    layer = encoder.layers[0]
    sampling = dict(reference_points=points, spatial_shapes=shapes)
    output = encoder(src, pos, padding)
    (output * inputs['grad_output']).sum().backward()
    with torch.no_grad():
        attention = layer.self_attn(
            src, value=src, identity=torch.zeros_like(src), query_pos=pos,
            key_padding_mask=padding.flatten(1), **sampling,
        )  # fmt: skip
        first = layer(src, query_pos=pos, key_padding_mask=padding.flatten(1), **sampling)
    return {
        'reference_points': points,
        'attention_layer0': attention,
        'layer0': first,
        'output': output,
        'grad_src': src.grad,
        'grad_offsets_bias0': layer.self_attn.sampling_offsets.bias.grad,
        'grad_value_proj_bias1': encoder.layers[1].self_attn.value_proj.bias.grad,
    }


RUNNERS = {
    'forward': run_forward,
    'forward_scaled': run_forward,
    'framequery_forward': run_forward,
    'vistr_forward': run_forward,
    'head': run_head,
    'vistr_head': run_head,
    'encoder': run_encoder,
}
