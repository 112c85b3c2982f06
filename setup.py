"""Build the compiled operators where torch is there, and put resources into wheels.

Everything else about the package stands in pyproject.toml. What is compiled, and from what, is
decided in isda_suite/ops/toolchain.py; its switches are ISDA_BUILD_OPS=0|1|auto, FORCE_CUDA=0|1,
TORCH_CUDA_ARCH_LIST, CUDA_HOME, MAX_JOBS.
"""

import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

ROOT = Path(__file__).resolve().parent
RESOURCES = ('configs', 'csrc', 'tools', 'demo')
"""Folders beside the package that a wheel carries in isda_suite/_resources."""
MODEL_INDEX = 'model-index.yml'
"""The list of all metafiles, where mim and other readers of model indices look; goes there too."""


def _load_toolchain() -> ModuleType:
    """Load the module by its path: importing the package would need torch."""
    path = ROOT / 'isda_suite' / 'ops' / 'toolchain.py'
    spec = importlib.util.spec_from_file_location('isda_suite_toolchain', path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


toolchain = _load_toolchain()


def _say(text: str) -> None:
    print(f'isda_suite: {text}', file=sys.stderr, flush=True)


def _reason_against() -> str | None:
    """Say why the operators are not compiled at all; ``None`` if they are."""
    if toolchain.flag('ISDA_BUILD_OPS') is False:
        return 'they were left out when installing (ISDA_BUILD_OPS=0)'
    if importlib.util.find_spec('torch') is None:
        return (
            'torch could not be imported while installing; pip isolates builds unless told '
            '--no-build-isolation'
        )
    if toolchain.find_compiler() is None:
        return 'no C++ compiler was found while installing'
    return None


class BuildResources(build_py):
    """Copy the resources into the wheel, and the note on why there is no library."""

    def run(self) -> None:
        """Build the Python part."""
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / 'isda_suite'
        for name in RESOURCES:
            if (ROOT / name).is_dir():
                ignore = shutil.ignore_patterns('__pycache__', '*.py[cod]', '*.so')
                shutil.copytree(
                    ROOT / name, target / '_resources' / name, ignore=ignore, dirs_exist_ok=True
                )
        shutil.copy2(ROOT / MODEL_INDEX, target / '_resources' / MODEL_INDEX)
        if REASON is not None:
            toolchain.write_record(target / 'ops', reason=REASON)


def _build_extension_class(plan: Any) -> type:
    """Make the command; torch is imported only here."""
    toolchain.prepare_environment(plan)
    from torch.utils import cpp_extension

    class BuildOperators(cpp_extension.BuildExtension):
        """Compile; without CUDA if only that part fails."""

        def finalize_options(self) -> None:
            """Keep object files between installations, so that the second takes seconds."""
            super().finalize_options()
            device = f'cuda{plan.cuda_version}' if plan.with_cuda else 'cpu'
            self.build_temp = str(ROOT / 'build' / f'ops-torch{plan.torch_version}-{device}')
            Path(self.build_temp).mkdir(parents=True, exist_ok=True)

        def build_extension(self, extension: Extension) -> None:
            """Compile one extension, the only one there is."""
            reason = plan.reason
            try:
                super().build_extension(extension)
            except Exception as error:
                strict = toolchain.flag('FORCE_CUDA') or toolchain.flag('ISDA_REQUIRE_OPS')
                if strict or not plan.with_cuda:
                    raise
                reason = f'compiling the CUDA kernels with {plan.cuda_home} failed: {error}'
                _say(f'{reason}; compiling for the CPU alone.')
                smaller = _make_extension(plan.without_cuda(reason))
                vars(extension).update(vars(smaller))
                super().build_extension(extension)
            self.reason = reason
            toolchain.write_record(
                Path(self.get_ext_fullpath(extension.name)).parent, reason=reason
            )

        def copy_extensions_to_source(self) -> None:
            """Put the library beside the package's sources, with the note on what is missing."""
            super().copy_extensions_to_source()
            toolchain.write_record(ROOT / 'isda_suite' / 'ops', reason=self.reason)

    return BuildOperators.with_options(use_ninja=shutil.which('ninja') is not None)


def _make_extension(plan: Any) -> Extension:
    from torch.utils import cpp_extension

    make = cpp_extension.CUDAExtension if plan.with_cuda else cpp_extension.CppExtension
    flags = toolchain.compile_arguments(plan)
    return make(
        'isda_suite.ops._C',
        [str(Path('csrc', source)) for source in toolchain.sources(plan)],
        extra_compile_args={'cxx': flags['cxx'], 'nvcc': flags['nvcc']},
        extra_link_args=flags['link'],
        define_macros=[('Py_LIMITED_API', '0x030A0000')],
        py_limited_api=True,
    )


def _compiled_part() -> dict[str, Any]:
    """Return setup()'s arguments for the compiled operators."""
    import torch

    plan = toolchain.make_plan(torch.__version__, torch.version.cuda)
    if plan.with_cuda:
        _say(f'compiling for CPU and CUDA {plan.cuda_archs} with {plan.cuda_home}')
    else:
        _say(f'compiling for the CPU alone: {plan.reason}')
    command = _build_extension_class(plan)
    return {
        'ext_modules': [_make_extension(plan)],
        'cmdclass': {'build_py': BuildResources, 'sdist': sdist, 'build_ext': command},
        'options': {'bdist_wheel': {'py_limited_api': 'cp310'}},
    }


REASON = _reason_against()
if REASON is None:
    arguments = _compiled_part()
else:
    if toolchain.flag('ISDA_BUILD_OPS') or toolchain.flag('ISDA_REQUIRE_OPS'):
        raise SystemExit(f'isda_suite: the operators cannot be compiled: {REASON}')
    _say(f'installing without compiled operators: {REASON}')
    arguments = {'cmdclass': {'build_py': BuildResources}}

setup(**arguments)
