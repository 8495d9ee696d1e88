"""What this process's users cost, told to the collector five times a second: charge reports."""
