"""Hooks that watch a run: fit, finite losses, class counts, memory, progress, state, saving."""

from .checkpoint_fit import CheckpointFitHook
from .class_count import ClassCountHook
from .counted_randomness import CountedRandomnessHook
from .finite_loss import FiniteLossHook
from .loader_memory import LoaderMemoryHook
from .preemption import PreemptionHook
from .progress import ProgressHook
from .safe_checkpoint import SafeCheckpointHook
from .training_state import TrainingStateHook

__all__ = [
    'CheckpointFitHook',
    'ClassCountHook',
    'CountedRandomnessHook',
    'FiniteLossHook',
    'LoaderMemoryHook',
    'PreemptionHook',
    'ProgressHook',
    'SafeCheckpointHook',
    'TrainingStateHook',
]
