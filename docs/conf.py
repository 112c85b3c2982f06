"""Sphinx builds these pages with `make docs`; they read as well without it."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / '_extensions')]

project = 'isda_suite'
copyright = 'the isda_suite authors'
html_title = 'isda_suite'
extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'repository_pages']
exclude_patterns = ['_build', '_extensions']
html_theme = 'furo'
myst_heading_anchors = 4
# The info strings of command blocks carry a label after the language, e.g. "bash run".
highlight_language = 'text'

autodoc_member_order = 'bysource'
autodoc_typehints = 'signature'
autodoc_default_options = {'members': True, 'show-inheritance': True}
# What comes from mmdet, mmseg or torch is documented there.
autodoc_inherit_docstrings = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True  # else attributes of data classes stand there twice
napoleon_custom_sections = ['Shapes', 'Source']
