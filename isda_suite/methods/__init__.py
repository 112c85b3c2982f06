"""The methods, one room each; importing this package registers them all."""

from isda_suite.methods import isda

__all__ = ['isda']
