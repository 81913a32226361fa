"""Headless trainer: cohorts, training stages, evaluation. Never Qt, never napari."""
