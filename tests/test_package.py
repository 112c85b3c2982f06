"""The package itself: cheap to import, with public names that load on demand."""

import subprocess
import sys
import textwrap

import pytest

import isda_suite


def run_python(code):
    command = [sys.executable, '-c', textwrap.dedent(code)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def test_import_is_cheap_and_loads_no_library_of_the_stack():
    """The limit is half a second beyond mmengine, which itself is not needed either."""
    seconds, *loaded = run_python("""
        import sys, time
        start = time.process_time()
        import isda_suite
        print(time.process_time() - start)
        heavy = ('torch', 'torchvision', 'mmengine', 'mmcv', 'mmdet', 'mmseg', 'numpy', 'cv2')
        print(*[name for name in heavy if name in sys.modules])
    """)
    assert loaded == []
    assert float(seconds) < 0.5


def test_registries_need_mmengine_only():
    (loaded,) = run_python("""
        import sys
        import isda_suite.registry
        print([name for name in ('mmcv', 'mmdet', 'mmseg') if name in sys.modules] or 'none')
    """)
    assert loaded == 'none'


def test_public_names_load_on_demand():
    assert run_python("""
        import sys
        import isda_suite
        print('isda_suite.ops' in sys.modules)
        print(isda_suite.ops is sys.modules['isda_suite.ops'])
    """) == ['False', 'True']
    assert {'ops', '__version__'} <= set(dir(isda_suite))


def test_every_public_name_exists():
    for name in isda_suite._PUBLIC_NAMES:
        assert getattr(isda_suite, name) is not None


def test_an_unknown_name_is_an_attribute_error_with_the_public_names():
    with pytest.raises(AttributeError, match=r"no attribute 'opps'; public names: .*ops"):
        isda_suite.opps  # noqa: B018
