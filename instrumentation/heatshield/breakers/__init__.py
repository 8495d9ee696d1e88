"""What a service enforces: the table of grants, the thread that keeps it, guards in code."""
