"""Look into the configuration of a data set without building it."""

from typing import Any


def innermost_dataset(dataset: Any) -> Any:
    """Return the configuration of the data set inside wrappers such as ``RepeatDataset``.

    Of several data sets (``ConcatDataset``) the first one counts.

    Args:
        dataset: The configuration of a data set.
    """
    while True:
        if dataset.get('dataset') is not None:
            dataset = dataset['dataset']
        elif dataset.get('datasets'):
            dataset = dataset['datasets'][0]
        else:
            return dataset
