"""Checks of single options of a model."""

from collections.abc import Iterable

from .errors import ModelConfigError


def require_known(name: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse options that a group of them does not have.

    Args:
        name: Path of the group below ``model``.
        given: Names in the configuration.
        known: Names that may stand there, in the order to list them.

    Raises:
        ModelConfigError: listing the unknown and the known names.
    """
    known = list(known)
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ModelConfigError(f'{name}: unknown {", ".join(unknown)}; known: {", ".join(known)}')


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
