"""The request that runs here: its user, call and deadline, and how it crosses processes."""
