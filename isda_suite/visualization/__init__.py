"""Pictures of instances, predictions beside ground truth, contact sheets."""

from .browsing import draw_samples
from .instances import InstanceVisualizer, draw_instances, draw_side_by_side, instances_of
from .pictures import contact_sheet, save_picture

__all__ = [
    'InstanceVisualizer',
    'contact_sheet',
    'draw_instances',
    'draw_samples',
    'draw_side_by_side',
    'instances_of',
    'save_picture',
]
