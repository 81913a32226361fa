"""Data sets: BIDS folders, the simulated cohort, connectivity."""
