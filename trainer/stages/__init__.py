"""Training stages: each takes a checkpoint (or none) and gives a checkpoint."""
