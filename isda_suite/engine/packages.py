"""Whether optional packages are there."""

import importlib.util


def is_installed(package: str) -> bool:
    """Tell whether a package can be imported, without importing it.

    A folder of that name in the working directory, such as the ``wandb`` that holds the logs of
    earlier runs, or data in ``lvis``, is no package, though Python would import it as one.

    Args:
        package: Its name, without dots.
    """
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None
