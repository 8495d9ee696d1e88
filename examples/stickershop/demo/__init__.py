"""The story played twice, in shadow and in protect, with a table and a report at the end."""
