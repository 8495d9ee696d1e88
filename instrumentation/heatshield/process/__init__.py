"""What a process lives through: SIGTERM, forks, shutdown, and what it is."""
