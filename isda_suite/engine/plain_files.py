"""Make mmengine read the files that a configuration names as data, whatever their kind.

Its ``load`` is behind configurations, ``ann_file`` and ``proposal_file`` of stock data sets, and
weights of classes. It runs what stands in a YAML file after ``!!python``, and all of a pickle.
"""

from typing import Any, BinaryIO


def read_files_as_data() -> None:
    """Replace mmengine's readers of YAML and of pickles by ones that take plain data only."""
    import yaml  # type: ignore[import-untyped]  # no stubs in our requirements
    from mmengine.fileio.handlers import yaml_handler
    from mmengine.fileio.handlers.pickle_handler import PickleHandler

    yaml_handler.Loader = yaml.SafeLoader
    PickleHandler.load_from_fileobj = _read_arrays


def _read_arrays(handler: Any, file: BinaryIO, **kwargs: Any) -> Any:
    """Read a pickle of numbers, texts, arrays, and lists and dicts of them."""
    # Here, because the data sets load mmdet, which no reading of a configuration should wait for.
    from isda_suite.checkpoint.errors import UnsafeCheckpointError
    from isda_suite.checkpoint.pickled_arrays import ArrayUnpickler
    from isda_suite.datasets.errors import DataError

    try:
        return ArrayUnpickler(file, **kwargs).load()
    except UnsafeCheckpointError as error:
        raise DataError(
            f'a .pkl file that the configuration names was not read: it needs {error}, and only '
            'numbers, texts and arrays are read from a pickle; write it as json'
        ) from None
