"""From accepted payloads to durable rows: gather, decode, commit."""
