"""Hooks that watch a run: fitting weights, finite losses, class counts, progress."""

from .checkpoint_fit import CheckpointFitHook
from .class_count import ClassCountHook
from .finite_loss import FiniteLossHook
from .progress import ProgressHook

__all__ = ['CheckpointFitHook', 'ClassCountHook', 'FiniteLossHook', 'ProgressHook']
