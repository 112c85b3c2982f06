"""Sphinx builds these pages with `make docs`; they read as well without it."""

project = 'isda_suite'
copyright = 'the isda_suite authors'
html_title = 'isda_suite'
extensions = ['myst_parser']
exclude_patterns = ['_build']
html_theme = 'furo'
myst_heading_anchors = 3
# The pages also link to files of the repository that are no pages (configurations, READMEs).
# tests/docs checks that every such link leads somewhere.
suppress_warnings = ['myst.xref_missing']
# The info strings of command blocks carry a label after the language, e.g. "bash run".
highlight_language = 'text'
