"""isda_suite: five segmentation methods on mmdet 3.x and mmseg 1.x."""

from isda_suite.compat.import_hook import install_import_hook

__version__ = '0.1.0'

install_import_hook()
