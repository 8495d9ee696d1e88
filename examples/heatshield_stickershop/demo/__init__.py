"""Runs the same load twice, in shadow and in protect, and ends with a table and a report."""
