"""Losses that mmdet and mmseg lack; ISDA needs none, its terms are mmdet's."""
