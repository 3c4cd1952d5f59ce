"""Many pictures at once, with Apache Beam: `python -m serving.batch`."""
