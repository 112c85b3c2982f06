"""Pictures of instances and class maps, predictions beside ground truth, contact sheets."""

from .browsing import draw_samples
from .class_maps import draw_class_map, draw_class_maps_side_by_side
from .confusion_matrix import draw_confusion_matrix
from .instances import InstanceVisualizer, draw_instances, draw_side_by_side, instances_of
from .pictures import contact_sheet, save_picture

__all__ = [
    'InstanceVisualizer',
    'contact_sheet',
    'draw_class_map',
    'draw_class_maps_side_by_side',
    'draw_confusion_matrix',
    'draw_instances',
    'draw_samples',
    'draw_side_by_side',
    'instances_of',
    'save_picture',
]
