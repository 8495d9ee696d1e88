"""The embedded store on one DuckDB file."""
