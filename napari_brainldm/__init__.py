"""Explore generative models of the 3D brain MRI in napari."""
