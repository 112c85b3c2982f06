"""What is wrong with an installation is said with what to do, however much of it is broken."""

import json
import re
import sys
from importlib import metadata

import numpy as np
import pytest

from isda_suite.apis import doctor, installation
from isda_suite.apis.doctor import describe, examine
from tests.tools.in_process import call_tool


def fatal(report):
    return {one['what']: one['remedy'] for one in report['problems'] if one['fatal']}


@pytest.fixture
def metadata_of(monkeypatch):
    """Change what is installed; None takes a distribution away."""
    real = metadata.version

    def change(**versions):
        changed = {name.replace('_', '-'): version for name, version in versions.items()}

        def version(name):
            if name in changed and changed[name] is None:
                raise metadata.PackageNotFoundError(name)
            return changed.get(name) or real(name)

        monkeypatch.setattr(metadata, 'version', version)

    return change


def test_a_sound_installation_is_called_sound():
    report = examine()
    assert report['works'] and not fatal(report)
    assert set(installation.LIBRARIES) <= set(report['versions'])
    assert all(report['distributions'].values())
    assert report['operators']['ops'] and report['devices']['cpu']['cores'] > 0
    text = describe(report)
    assert text.endswith('The installation works.')
    assert 'ms_deform_attn' in text and f'  numpy                 {np.__version__}' in text
    json.dumps(report)


@pytest.mark.parametrize(
    ('versions', 'what', 'remedy'),
    [
        ({'safetensors': None}, 'safetensors is not installed', 'pip install .safetensors>='),
        ({'pycocotools': '1.0'}, 'pycocotools 1.0 is installed, .* needs >=2', 'pycocotools>=2'),
        ({'torchvision': None}, 'torchvision is not installed', 'pip install torch torchvision'),
        ({'torch': '2.4.1'}, 'was compiled for torch', 'pip install torch=='),
        ({'mmcv_full': '1.7'}, 'own the same folder mmcv/', 'pip uninstall|Keep one'),
        ({'opencv_python_headless': '4.1'}, 'own the same folder cv2/', 'pip uninstall -y opencv'),
    ],
)
def test_distributions_that_do_not_fit_are_named_with_the_remedy(
    metadata_of, versions, what, remedy
):
    metadata_of(**versions)
    wanted = installation.wanted_distributions()
    found = list(installation.distribution_problems(wanted))
    matching = [one for one in found if re.search(what, f'{one.what}')]
    assert len(matching) == 1, found
    assert re.search(remedy, f'{matching[0].what} {matching[0].remedy}')


def test_a_library_that_cannot_be_imported_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmseg', None)
    report = examine()
    ((what, remedy),) = fatal(report).items()
    assert what.startswith('mmseg cannot be imported: ') and 'onedl-mmsegmentation' in remedy
    assert not report['works'] and describe(report).endswith('The installation is broken.')


def test_without_torch_the_rest_is_examined_still(monkeypatch):
    libraries = dict.fromkeys(('numpy', 'cv2'), '1')
    broken = installation.Problem('torch cannot be imported: ImportError: x', 'y')
    monkeypatch.setattr(doctor, 'import_libraries', lambda: (libraries, [broken]))
    report = examine()
    assert set(fatal(report)) == {broken.what}
    assert report['operators'] == {} and 'none can be used' in describe(report)


def test_what_is_absent_is_said_once(monkeypatch, metadata_of):
    metadata_of(onedl_mmdetection=None)
    gone = installation.Problem("mmdet cannot be imported: ModuleNotFoundError: 'mmdet'", 'x')
    monkeypatch.setattr(doctor, 'import_libraries', lambda: ({}, [gone]))
    assert list(fatal(examine())) == ['onedl-mmdetection is not installed']


def test_libraries_that_fail_together_are_found(monkeypatch):
    def refuse():
        raise RuntimeError('operator torchvision::nms does not exist')

    probes = [(needs, what, refuse) for needs, what, _ in installation._PROBES[:2]]
    monkeypatch.setattr(installation, '_PROBES', probes)
    found = list(installation.probe_problems({'torch': '1', 'torchvision': '1'}))
    assert [one.what for one in found] == [
        'an operator of torchvision does not work: RuntimeError: operator torchvision::nms does '
        'not exist'
    ]


def test_wrong_results_of_an_operator_are_found(monkeypatch):
    import isda_suite.ops

    original = isda_suite.ops.ms_deform_attn
    monkeypatch.setattr(isda_suite.ops, 'ms_deform_attn', lambda *a: original(*a) * 1.01)
    report = examine()
    ((what, remedy),) = fatal(report).items()
    assert 'ms_deform_attn is off by' in what and 'isda_suite.ops build' in remedy


def test_slow_operators_are_a_note_only(monkeypatch):
    import isda_suite.ops

    report = isda_suite.ops.info()
    for kinds in report['ops'].values():
        kinds['cpu'] = 'reference'
    report['cpu_reason'] = 'no library'
    report['slower'] = {name: {'cpu': 'no library', 'cuda': None} for name in report['ops']}
    monkeypatch.setattr(isda_suite.ops, 'info', lambda: report)
    found = examine()
    (note,) = [one for one in found['problems'] if 'plain PyTorch: no library' in one['what']]
    assert found['works'] and not note['fatal'] and 'ops build' in note['remedy']


def test_an_incomplete_package_is_found(monkeypatch, tmp_path):
    (tmp_path / 'configs').mkdir()
    monkeypatch.setattr('isda_suite.resources.resource_root', lambda: tmp_path)
    found = [one.what for one in installation.resource_problems()]
    assert len(found) == 2 and all('is missing' in what for what in found)


def test_a_small_shared_memory_and_a_locked_cache_are_notes(monkeypatch, tmp_path):
    from types import SimpleNamespace

    usage = SimpleNamespace(total=64 << 20)
    monkeypatch.setattr(installation.shutil, 'disk_usage', lambda folder: usage)
    monkeypatch.setattr(installation.os, 'access', lambda folder, mode: False)
    monkeypatch.setattr(installation, '_SHARED_MEMORY', tmp_path)
    cache, shared = installation.machine_problems(tmp_path / 'a' / 'b')
    assert 'ISDA_CACHE_DIR' in cache.remedy and '64 MB' in shared.what
    assert not cache.fatal and not shared.fatal


def test_another_python_and_another_system_are_named(monkeypatch):
    monkeypatch.setattr(sys, 'version_info', (3, 14, 0))
    monkeypatch.setattr(sys, 'platform', 'darwin')
    python, system = installation.python_problems()
    assert '3.10 to 3.12' in python.what and python.fatal
    assert 'darwin' in system.what and not system.fatal


def test_extras_say_what_is_missing(metadata_of, monkeypatch):
    lines = ["rasterio>=1.4; extra == 'raster'", 'numpy>=2']
    monkeypatch.setattr(installation, '_requirements', lambda: lines)
    metadata_of(rasterio=None)
    found = installation.extras(installation.wanted_distributions())
    assert found['raster'] == {'complete': False, 'found': {}, 'missing': ['rasterio>=1.4']}
    text = doctor._extra_rows(found)['raster']
    assert text == "missing rasterio>=1.4: pip install 'isda_suite[raster]'"


def test_the_tool_ends_with_what_it_found(monkeypatch, capsys):
    assert call_tool(monkeypatch, 'tools/doctor.py', '--json') == 0
    assert json.loads(capsys.readouterr().out)['works'] is True
    monkeypatch.setitem(sys.modules, 'mmseg', None)
    assert call_tool(monkeypatch, 'tools/doctor.py') == 1
    captured = capsys.readouterr()
    assert 'WRONG: mmseg' in captured.out and 'Traceback' not in captured.err
