"""Reader studies without a window: from a plan of pictures to a report of answers."""
