"""Programs that serve and deploy: `python -m serving.server`, `python -m serving.client`."""
