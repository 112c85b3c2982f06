"""Data of a configuration with their annotations, which test pipelines leave out."""

from typing import Any

from isda_suite.engine.type_checks import registered_class

_LOADERS = ('Annotations', 'LoadPolygons', 'LoadSegLabels')


def with_annotations(dataset_cfg: Any) -> Any:
    """Return the configuration of a data set whose pipeline loads annotations.

    Args:
        dataset_cfg: The configuration, which is not changed, also of wrapped or joined data; one
            that loads them, or that has no pipeline, is returned as it is.
    """
    if 'datasets' in dataset_cfg:
        parts = [with_annotations(one) for one in dataset_cfg['datasets']]
        return {**dataset_cfg, 'datasets': parts}
    if 'dataset' in dataset_cfg:
        return {**dataset_cfg, 'dataset': with_annotations(dataset_cfg['dataset'])}
    pipeline = dataset_cfg.get('pipeline')
    if not pipeline:
        return dataset_cfg
    for place, step in enumerate(pipeline):
        if 'TransformBroadcaster' in str(step['type']):  # frames of a clip
            load: dict[str, Any] = {'type': 'isda_suite.LoadClipAnnotations'}
            step = {**step, 'transforms': _with_loader(step['transforms'], load)}
            changed = [*pipeline[:place], step, *pipeline[place + 1 :]]
            return {**dataset_cfg, 'pipeline': changed}
    return {**dataset_cfg, 'pipeline': _with_loader(pipeline, _loader_for(dataset_cfg))}


def _loader_for(dataset_cfg: Any) -> dict[str, Any]:
    """Return the step that loads what is annotated: class maps, or instances."""
    bases = getattr(registered_class(dataset_cfg['type'], 'DATASETS'), '__mro__', ())
    if not any(base.__name__ == 'BaseSegDataset' for base in bases):
        return {'type': 'LoadAnnotations', 'with_bbox': True, 'with_mask': True}
    ours = any(base.__module__.startswith('isda_suite.') for base in bases)
    return {'type': 'isda_suite.LoadSegLabels' if ours else 'mmseg.LoadAnnotations'}


def _with_loader(steps: Any, load: dict[str, Any]) -> list[Any]:
    if any(str(step['type']).endswith(_LOADERS) for step in steps):
        return list(steps)
    return [steps[0], load, *steps[1:]]
