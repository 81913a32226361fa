"""Public checkpoints into ours: known by their keys and shapes, never run."""
