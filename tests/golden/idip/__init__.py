"""Runners of the goldens of IDIP, by area."""
