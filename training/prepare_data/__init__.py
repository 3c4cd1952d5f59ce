"""Class folders to sharded TFRecords, with Apache Beam: `python -m training.prepare_data`."""
