"""The check of options that are one of a few words."""

from isda_suite.layers.errors import ModelConfigError


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
