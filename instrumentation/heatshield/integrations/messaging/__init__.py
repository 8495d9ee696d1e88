"""Celery and Kafka: the request travels with the message."""
