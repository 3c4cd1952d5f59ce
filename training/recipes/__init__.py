"""Recipes, one run of `training.train` each: the paper, the command, the machine, the time and the accuracy to expect."""
