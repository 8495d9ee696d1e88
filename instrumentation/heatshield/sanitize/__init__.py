"""What may leave a process: secrets, user ids and values are taken out."""
