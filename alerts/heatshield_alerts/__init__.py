"""Rules, alert states, notifications and breaker control: the pure core that decides."""
