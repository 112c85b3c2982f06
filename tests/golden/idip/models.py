"""The model of a case; files share parameters, so the last one is kept."""

import functools
import json

import torch

from tests.methods.idip.build import build_idip, set_up

_CASES = {}


def model_of(case):
    """Return the model of a case in evaluation mode, set to the case's settings."""
    # What is not a size of the network can be changed in a model that stands.
    config = {k: v for k, v in case.config.items() if k not in ('num_proposals', 'image_size')}
    parameters = {k: v for k, v in case._std.items() if k.startswith('param')}
    key = json.dumps([config['depth'], config['num_stages'], parameters, case._std['seed']])
    _CASES[key] = case
    return set_up(_model(key), case.config).eval()


@functools.lru_cache(maxsize=1)
def _model(key):
    case = _CASES.pop(key)
    return build_idip(case.config, case.params())


def feats_of(inputs):
    """Return the maps of a case: p3, p4, … in this order."""
    names = sorted(name for name in inputs if name[0] == 'p' and name[1:].isdigit())
    return [torch.from_numpy(inputs[name]) for name in names]


def tensors(values):
    """Turn a list of arrays into tensors."""
    return [torch.from_numpy(value) for value in values]
