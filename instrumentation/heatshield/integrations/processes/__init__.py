"""How workers of servers and pools begin and end."""
