"""Settings of the whole suite."""

import os

# Several threads on tensors this small cost more time than they save, most of all beside other
# processes. Set before torch is imported; child processes inherit it.
os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ.setdefault('MKL_NUM_THREADS', '1')

# The stand-in for mmcv's compiled part has to be there before a test imports mmdet; linters sort
# mmdet's import before ours. Loads neither torch nor mmdet.
import isda_suite  # noqa: F401


def pytest_collection_modifyitems(items):
    """Begin a parallel run with the files that take long, so that no process waits for them last.

    Files go to the processes one by one, in the order of the tests.
    """
    if 'PYTEST_XDIST_WORKER' in os.environ:
        early = {item.path for item in items if item.get_closest_marker('ranks')}
        items.sort(key=lambda item: item.path not in early)


def pytest_collection_finish():
    """Spare the many small runs of the suite what costs them most and says nothing about them."""
    import gc

    from yapf.yapflib import yapf_api

    # The text of a configuration is laid out anew for the log, the work dir and every checkpoint.
    lay_out, known = yapf_api.FormatCode, {}

    def lay_out_once(text, **options):
        if text not in known:
            known[text] = lay_out(text, **options)
        return known[text]

    yapf_api.FormatCode = lay_out_once
    # Every data set collects garbage, and would look through all imported modules each time.
    gc.freeze()
