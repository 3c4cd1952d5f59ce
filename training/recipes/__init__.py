"""Recipes, one run of `training.train` each: paper, command, machine, time and the accuracy to expect."""
