"""Find the model and the weights that a user names."""

import copy
from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch import nn

from isda_suite.apis.videos.clip_pipeline import clip_length
from isda_suite.engine.config_file import apply_options, find_config, read_config
from isda_suite.engine.errors import ConfigError

from .model import load_model
from .zoo import list_models, resolve_weights

#: As weights: those that the model begins training with.
RANDOM = 'random'


def task_of(model: nn.Module) -> str:
    """Tell what a model predicts: ``'video'``, ``'semantic'`` or ``'instance'``."""
    if clip_length(model) is not None and hasattr(model, 'clip_linker'):
        return 'video'
    return 'semantic' if hasattr(model, 'encode_decode') else 'instance'


def load_choice(
    model: str | Path | Config | nn.Module,
    weights: str | Path | None,
    device: str = 'auto',
    cfg_options: dict[str, Any] | None = None,
    trust: bool = False,
) -> Any:
    """Load a model; the arguments are those of :class:`.segmenter.Segmenter`.

    Returns:
        The network in evaluation mode, with ``cfg`` and ``dataset_meta``.

    Raises:
        ConfigError: if there is no such model, no weights, or an option has no place.
        CheckpointError: if the weights are missing, damaged, or of another model.
    """
    if isinstance(model, nn.Module):
        return _require_loaded(model, weights, cfg_options)
    if isinstance(model, Config):
        cfg = copy.deepcopy(model)
        apply_options(cfg, cfg_options)
    else:
        model = find_config(model)
        cfg = read_config(model, cfg_options)
    return load_model(cfg, _find_weights(model, weights), device, trust)


def _find_weights(model: Config | Path, weights: str | Path | None) -> str | Path | None:
    """Return what names the weights; ``None`` for random ones."""
    if weights is not None:
        return None if weights == RANDOM else weights
    file = model.filename if isinstance(model, Config) else model
    name = Path(file).stem if file else ''
    known = {one.name: one.config for one in list_models()}
    if name in known and known[name].resolve() == Path(file).resolve():
        return resolve_weights(name)
    raise ConfigError(
        f'{name or "the configuration"}: no weights given, and it is no model of the zoo: give '
        f'weights, the path or address of a checkpoint, or {RANDOM!r} to try an untrained model'
    )


def _require_loaded(model: Any, weights: Any, cfg_options: Any) -> nn.Module:
    """Refuse what makes no sense with a model that is built already."""
    if weights is not None or cfg_options:
        raise ConfigError('a model that is built has its weights and its configuration: give none')
    if not hasattr(model, 'cfg') or not hasattr(model, 'dataset_meta'):
        raise ConfigError(
            f'{type(model).__name__} has no cfg or no dataset_meta: load it with '
            'isda_suite.apis.model.load_model, or give its configuration and weights'
        )
    return model.eval()
