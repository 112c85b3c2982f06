"""The methods, one room each; importing this package registers them all."""

from isda_suite.methods import isda, isdnet, iuq

__all__ = ['isda', 'isdnet', 'iuq']
