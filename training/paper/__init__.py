"""What the two papers evaluate, measured again: `python -m training.paper`."""
