"""The methods, one room each; importing this package registers them all."""

from isda_suite.methods import defvistr, isda, isdnet, iuq, solq, sotr

__all__ = ['defvistr', 'isda', 'isdnet', 'iuq', 'solq', 'sotr']
