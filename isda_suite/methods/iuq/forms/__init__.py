"""Forms for the export of mmdet's detectors that IUQ trains."""

from .condinst import CondInstExport
from .mask2former import Mask2FormerExport
from .queryinst import QueryInstExport

__all__ = ['CondInstExport', 'Mask2FormerExport', 'QueryInstExport']
