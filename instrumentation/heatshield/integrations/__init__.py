"""One module per library that heatshield instruments; each has ``install`` and says its name."""
