"""The collector's HTTP face: what it serves, over the parts it is handed (parts.py)."""
