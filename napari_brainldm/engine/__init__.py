"""Headless engine: torch, numpy and MONAI networks. Never Qt, never napari."""
