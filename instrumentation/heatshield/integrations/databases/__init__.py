"""Redis, SQL databases and MongoDB: a span a command, and what it cost."""
