"""Hooks that watch a run: weights that fit, finite losses, class counts, progress, saving."""

from .checkpoint_fit import CheckpointFitHook
from .class_count import ClassCountHook
from .counted_randomness import CountedRandomnessHook
from .finite_loss import FiniteLossHook
from .preemption import PreemptionHook
from .progress import ProgressHook
from .safe_checkpoint import SafeCheckpointHook

__all__ = [
    'CheckpointFitHook',
    'ClassCountHook',
    'CountedRandomnessHook',
    'FiniteLossHook',
    'PreemptionHook',
    'ProgressHook',
    'SafeCheckpointHook',
]
