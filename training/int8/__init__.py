"""What 8 bits cost and bring."""
