"""The methods, one room each; importing this package registers them all."""

from isda_suite.methods import defvistr, idip, isda, isdnet, iuq, solq, sotr

__all__ = ['defvistr', 'idip', 'isda', 'isdnet', 'iuq', 'solq', 'sotr']
