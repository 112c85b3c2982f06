"""The stand-in for mmcv._ext as a module: found last, complete in names, honest when it cannot."""

import importlib.util
import subprocess
import sys
import textwrap

import pytest

import isda_suite.compat.import_hook as hook

pytestmark = pytest.mark.skipif(
    not hook.stand_in_is_used(), reason='a compiled mmcv is installed, so the stand-in does not run'
)


def run_python(code, **options):
    command = [sys.executable, '-c', textwrap.dedent(code)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, **options)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_finder_stands_last_and_once():
    hook.install_import_hook()
    hook.install_import_hook()
    finders = [f for f in sys.meta_path if isinstance(f, hook.StandInFinder)]
    assert len(finders) == 1


def test_the_finder_answers_for_one_name_only():
    finder = hook.StandInFinder()
    assert finder.find_spec('mmcv._ext', None) is not None
    assert finder.find_spec('mmcv._ext2', None) is None
    assert finder.find_spec('_ext', None) is None


def test_the_module_has_a_specification_before_and_after_its_import():
    """mmengine's environment report asks for it and fails on modules without."""
    import mmcv._ext
    from mmengine.utils.dl_utils import mmcv_full_available

    assert importlib.util.find_spec('mmcv._ext').origin == hook.ORIGIN
    assert mmcv._ext.__spec__.name == 'mmcv._ext'
    assert mmcv_full_available()


def test_the_environment_report_names_the_stand_in():
    from mmcv.ops import get_compiler_version, get_compiling_cuda_version

    assert 'stand-in' in get_compiler_version()
    assert isinstance(get_compiling_cuda_version(), str)


def test_an_operator_without_implementation_says_what_to_install():
    import torch
    from mmcv.ops import box_iou_rotated

    boxes = torch.rand(2, 5)
    with pytest.raises(NotImplementedError) as caught:
        box_iou_rotated(boxes, boxes)
    message = str(caught.value)
    assert "'box_iou_rotated'" in message
    assert 'pip install --no-build-isolation --no-cache-dir' in message
    assert 'onedl-mmcv==2.3.6' in message
    assert 'FORCE_CUDA=1' in message


def test_any_operator_name_exists_but_no_private_one():
    import mmcv._ext as ext

    assert ext.some_operator_of_tomorrow.__name__ == 'some_operator_of_tomorrow'
    assert not hasattr(ext, '__path__')
    assert not hasattr(ext, '_private')


def test_all_wrappers_of_mmcv_find_their_operators():
    """Importing mmcv.ops asserts that about 110 names are there."""
    import mmcv.ops

    assert len(mmcv.ops.__all__) > 100


def test_a_compiled_extension_wins(tmp_path):
    """A file beside mmcv's own is found by the ordinary finder, which comes first."""
    (tmp_path / 'mmcv').mkdir()
    (tmp_path / 'mmcv' / '__init__.py').write_text('')
    (tmp_path / 'mmcv' / '_ext.py').write_text('WHO = "compiled"\n')
    code = """
        import sys
        sys.path.insert(0, sys.argv[1])
        import isda_suite
        from isda_suite.compat.import_hook import stand_in_is_used
        import mmcv._ext
        print(mmcv._ext.WHO, stand_in_is_used(), 'torch' in sys.modules)
    """
    command = [sys.executable, '-c', textwrap.dedent(code), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.stdout.split() == ['compiled', 'False', 'False'], result.stderr


def test_modules_imported_before_get_the_operators():
    """Stock tools import mmdet first, and a config imports isda_suite later."""
    output = run_python("""
        import mmdet.structures.mask.structures as masks
        import mmseg.models.utils.point_sample as points
        import mmseg.models.losses.focal_loss as focal
        early = masks.roi_align, points.point_sample, focal._sigmoid_focal_loss
        import isda_suite
        import mmcv.ops
        assert early[0].__module__ == masks.__name__ and early[1:] == (None, None)
        assert masks.roi_align == mmcv.ops.roi_align
        assert points.point_sample is mmcv.ops.point_sample
        assert focal._sigmoid_focal_loss == mmcv.ops.sigmoid_focal_loss
        from isda_suite.compat.late_import import repair_late_imports
        assert repair_late_imports() == []
        print('repaired')
    """)
    assert output.split()[-1] == 'repaired'
