"""What `brainldm` can do: one file for each group of commands."""
