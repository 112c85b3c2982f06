"""Functions behind the tools, for scripts and notebooks.

``from isda_suite.apis.train import train`` and ``from isda_suite.apis.test import evaluate``;
importing this package alone stays cheap.
"""
