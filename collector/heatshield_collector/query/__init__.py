"""What people ask: one linked request, and which requests there were."""
