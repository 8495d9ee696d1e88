"""What a service decides by itself: local breakers, retry budgets."""
