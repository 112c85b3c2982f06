"""Settings of the whole suite."""

import os

# Several threads on tensors this small cost more time than they save, most of all beside other
# processes. Set before torch is imported; child processes inherit it.
os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ.setdefault('MKL_NUM_THREADS', '1')

# The stand-in for mmcv's compiled part has to be there before a test imports mmdet; linters sort
# mmdet's import before ours. Loads neither torch nor mmdet.
import isda_suite  # noqa: F401
