"""Whom a burning user harms, and who is the cause: the rule by which a user may be cut."""
