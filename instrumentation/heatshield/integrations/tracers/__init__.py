"""Other tracing libraries, whose spans are kept in the same trace."""
