"""Readers of data sets, checks of annotations and the generated sample."""
