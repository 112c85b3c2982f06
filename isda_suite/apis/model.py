"""Build a model from its config and fill it with weights."""

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DATASETS, MODELS, DefaultScope
from torch import nn

from isda_suite.checkpoint.load import class_names_of, load_into
from isda_suite.checkpoint.old_offsets import accept_old_offsets
from isda_suite.checkpoint.safe_load import install_safe_loading, load_file
from isda_suite.compat.warning_filters import quiet_imports
from isda_suite.engine.class_count import (
    asks_for_class_count,
    put_class_count,
    settle_class_count,
)
from isda_suite.engine.config_file import read_config
from isda_suite.engine.errors import ConfigError
from isda_suite.engine.launch import choose_operators
from isda_suite.engine.memory import give_back
from isda_suite.engine.metafile import require_published_content
from isda_suite.engine.type_checks import explain_build_error

from .zoo import local_weights


def choose_device(device: str) -> torch.device:
    """Turn ``auto``, ``cpu``, ``cuda`` or ``cuda:1`` into a device that is there.

    Args:
        device: What the user wrote; ``auto`` is the first GPU if there is one.

    Raises:
        ConfigError: if the word is unknown or the device is absent.
    """
    gpus = torch.cuda.device_count()
    if device == 'auto':
        return torch.device('cuda:0' if gpus else 'cpu')
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f'device {device!r} is none of auto, cpu, cuda, cuda:N') from error
    if found.type == 'cuda' and (found.index or 0) >= gpus:
        raise ConfigError(f'device {device!r} asked for, torch sees {gpus} GPUs: use auto or cpu')
    return found


def build_model(config: str | Path | Config, num_classes: int | None = None) -> nn.Module:
    """Build the model of a config on the current device, without fetching pretrained weights.

    Args:
        config: File, name of a shipped config, or the config itself, which is not changed.
        num_classes: What ``num_classes='from_data'`` of the config means; ``None`` asks the data.

    Returns:
        The model, its weights not initialised; ``model.cfg`` is the config.

    Raises:
        ConfigError: if the config cannot be read or built.
    """
    cfg = config if isinstance(config, Config) else read_config(config)
    if 'model' not in cfg:
        raise ConfigError(f'{cfg.filename}: there is no model in this config')
    cfg = copy.deepcopy(cfg)
    if num_classes is not None:
        put_class_count(cfg.model, num_classes)
    settle_class_count(cfg, ['test_dataloader', 'train_dataloader'])
    choose_operators(cfg)
    model_cfg = _without_pretrained(copy.deepcopy(cfg.model))
    try:
        with quiet_imports(), DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
            model = MODELS.build(model_cfg)
    except (TypeError, KeyError) as error:
        raise explain_build_error(cfg, error) or error from error
    model.cfg = cfg
    accept_old_offsets(model)
    return model


def load_model(
    config: str | Path | Config,
    checkpoint: str | Path | None = None,
    device: str = 'auto',
    trust: bool = False,
) -> nn.Module:
    """Build a model and load its weights, ready for :func:`predict`.

    Args:
        config: File, name of a shipped config, or the config itself.
        checkpoint: Weights, as for :func:`.zoo.resolve_weights`; every entry must match. ``None``
            leaves the model random.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        trust: Read a checkpoint that may run code.

    Returns:
        The model in evaluation mode, with ``cfg`` and ``dataset_meta`` (class names, colours).

    Raises:
        ConfigError: if the config or the device is wrong.
        CheckpointError: if the checkpoint is damaged, unsafe, or of another model.
    """
    place = choose_device(device)
    install_safe_loading(trust)
    checkpoint = local_weights(checkpoint)
    cfg = config if isinstance(config, Config) else read_config(config)
    require_published_content(cfg, [checkpoint])
    asks = asks_for_class_count(cfg.get('model'))
    num_classes = _stored_class_count(checkpoint, trust) if asks else None
    model = revert_sync_batchnorm(build_model(cfg, num_classes))
    meta = _dataset_meta(model.cfg)
    if checkpoint is None:
        with _quiet_log():
            model.init_weights()
    else:
        # The checkpoint's classes are those the weights know; the config's data may be others.
        report = load_into(model, checkpoint, strict=True, trust=trust)
        give_back()  # of a checkpoint of a training, which is three times as large as its weights
        if report.classes and report.classes != tuple(meta.get('classes') or ()):
            stored = report.meta.get('dataset_meta') or {}
            palette = stored.get('palette', stored.get('PALETTE', 'random'))
            meta = {**meta, 'classes': report.classes, 'palette': palette}
    model.dataset_meta = meta
    return model.to(place).eval()


@contextmanager
def _quiet_log() -> Iterator[None]:
    """Hold back the line mmengine logs for each parameter it initialises."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _stored_class_count(checkpoint: str | Path | None, trust: bool) -> int | None:
    """Return how many classes a local checkpoint names, if it names them."""
    if checkpoint is None or not Path(checkpoint).is_file():
        return None
    classes = class_names_of(load_file(checkpoint, trust).get('meta') or {})
    return len(classes) if classes else None


def _without_pretrained(node: Any) -> Any:
    """Remove what would fetch weights while a model is initialised."""
    if isinstance(node, dict):
        init = node.get('init_cfg')
        if isinstance(init, dict) and init.get('type') == 'Pretrained':
            node['init_cfg'] = None
        if node.get('pretrained'):
            node['pretrained'] = None
        for value in node.values():
            _without_pretrained(value)
    elif isinstance(node, list | tuple):
        for value in node:
            _without_pretrained(value)
    return node


def _dataset_meta(cfg: Config) -> dict[str, Any]:
    """Read class names and colours from the test data's class, without reading its files."""
    dataset = (cfg.get('test_dataloader') or {}).get('dataset')
    if not dataset:
        return {}
    with quiet_imports(), DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        meta = DATASETS.build({**copy.deepcopy(dataset), 'lazy_init': True}).metainfo
    return {**meta, 'palette': meta.get('palette', 'random')}
