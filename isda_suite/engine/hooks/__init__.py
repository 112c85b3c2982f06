"""Hooks that watch a run: finite losses, class counts, progress."""

from .class_count import ClassCountHook
from .finite_loss import FiniteLossHook
from .progress import ProgressHook

__all__ = ['ClassCountHook', 'FiniteLossHook', 'ProgressHook']
