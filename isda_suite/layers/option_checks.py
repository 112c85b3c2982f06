"""Checks of single options of a model."""

from .errors import ModelConfigError


def require_one_of(name: str, value: object, known: tuple[str, ...]) -> None:
    """Refuse an option with an unknown value.

    Args:
        name: Path of the option below ``model``.
        value: What the configuration says.
        known: What it may say.

    Raises:
        ModelConfigError: if ``value`` is not among ``known``.
    """
    if value not in known:
        raise ModelConfigError(f'{name}: expected one of {known}, got {value!r}')


def require_at_least(name: str, value: object, least: int) -> None:
    """Refuse an option that is no integer or too small.

    Args:
        name: Path of the option below ``model``.
        value: What the configuration says.
        least: The smallest value.

    Raises:
        ModelConfigError: if ``value`` is below ``least`` or no integer.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ModelConfigError(f'{name}: expected an integer of at least {least}, got {value!r}')
