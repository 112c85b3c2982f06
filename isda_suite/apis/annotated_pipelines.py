"""Data of a configuration with their annotations, which test pipelines leave out."""

from typing import Any

_LOADERS = ('Annotations', 'LoadPolygons', 'LoadSegLabels')


def with_annotations(dataset_cfg: Any) -> Any:
    """Return the configuration of a data set whose pipeline loads annotations.

    Args:
        dataset_cfg: The configuration, which is not changed; one that loads them, or that has no
            pipeline, is returned as it is.
    """
    pipeline = dataset_cfg.get('pipeline')
    if not pipeline:
        return dataset_cfg
    for place, step in enumerate(pipeline):
        if 'TransformBroadcaster' in str(step['type']):  # frames of a clip
            load: dict[str, Any] = {'type': 'isda_suite.LoadClipAnnotations'}
            step = {**step, 'transforms': _with_loader(step['transforms'], load)}
            changed = [*pipeline[:place], step, *pipeline[place + 1 :]]
            return {**dataset_cfg, 'pipeline': changed}
    load = {'type': 'LoadAnnotations', 'with_bbox': True, 'with_mask': True}
    return {**dataset_cfg, 'pipeline': _with_loader(pipeline, load)}


def _with_loader(steps: Any, load: dict[str, Any]) -> list[Any]:
    if any(str(step['type']).endswith(_LOADERS) for step in steps):
        return list(steps)
    return [steps[0], load, *steps[1:]]
