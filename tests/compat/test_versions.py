"""Installed packages that do not fit together are named with the remedy."""

from importlib import metadata

import pytest

from isda_suite.compat import versions


@pytest.fixture
def installed(monkeypatch):
    """Pretend that exactly these distributions are installed."""
    packages = {}
    requirements = {}

    def version(name):
        if name not in packages:
            raise metadata.PackageNotFoundError(name)
        return packages[name]

    monkeypatch.setattr(versions.metadata, 'version', version)
    monkeypatch.setattr(versions.metadata, 'requires', lambda name: requirements.get(name))
    return packages, requirements


def test_this_environment_is_sound():
    assert versions.installation_problems() == []


@pytest.mark.parametrize('requirement', ['torch==2.11.0', 'torch (==2.11.0)'])
def test_a_torchvision_for_another_torch_is_named_with_the_pair_to_install(installed, requirement):
    packages, requirements = installed
    packages.update(torch='2.12.1', torchvision='0.26.0+cpu')
    requirements['torchvision'] = ['numpy', requirement, 'scipy ; extra == "scipy"']
    problem = versions.torchvision_problem()
    assert 'torchvision 0.26.0+cpu was compiled for torch 2.11.0, but torch 2.12.1' in problem
    assert 'pip install torch==2.11.0 torchvision==0.26.0' in problem


@pytest.mark.parametrize('torch', ['2.11.0', '2.11.0+cu128', '2.11.0+cpu'])
def test_builds_of_the_same_release_fit(installed, torch):
    packages, requirements = installed
    packages.update(torch=torch, torchvision='0.26.0')
    requirements['torchvision'] = ['torch==2.11.0']
    assert versions.installation_problems() == []


def test_a_missing_torchvision_is_named(installed):
    installed[0]['torch'] = '2.11.0'
    assert versions.torchvision_problem().startswith('torchvision is not installed')


def test_a_similar_release_is_not_the_same(installed):
    packages, requirements = installed
    packages.update(torch='2.1.10', torchvision='0.16.1')
    requirements['torchvision'] = ['torch==2.1.1']
    assert versions.torchvision_problem() is not None


def test_two_packages_in_one_folder_are_named(installed):
    packages, _ = installed
    names = ('torch', 'torchvision', 'mmcv', 'onedl-mmcv', 'onedl-mmengine')
    packages.update(dict.fromkeys(names, '1.0'))
    (problem,) = versions.installation_problems()
    assert 'mmcv and onedl-mmcv are both installed' in problem
    assert 'pip uninstall -y mmcv onedl-mmcv' in problem
