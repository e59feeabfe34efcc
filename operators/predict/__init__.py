"""What a live picture will show next, and what is done with that."""
