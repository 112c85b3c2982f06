"""The methods, one room each; importing this package registers them all."""

from isda_suite.methods import idip, isda, isdnet

__all__ = ['idip', 'isda', 'isdnet']
