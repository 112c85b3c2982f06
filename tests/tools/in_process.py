"""Call a tool inside the test's process, where the libraries are loaded already."""

import importlib.util
import sys
from pathlib import Path

from isda_suite.engine.exit_codes import run_tool

ROOT = Path(__file__).parents[2]


def call_tool(monkeypatch, script, *arguments):
    """Return the exit code the tool would end with."""
    path = ROOT / script
    monkeypatch.setattr(sys, 'argv', [str(path), *map(str, arguments)])
    spec = importlib.util.spec_from_file_location(f'tool_{path.stem}', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return run_tool(module.main)
