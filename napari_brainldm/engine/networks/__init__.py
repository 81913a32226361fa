"""Networks and their frozen specs."""
