"""Losses that mmdet and mmseg lack, or whose formula differs from theirs."""

from .giou_in_strides import GIoUInStridesLoss

__all__ = ['GIoUInStridesLoss']
