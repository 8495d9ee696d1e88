"""Intake: bytes from the network become accepted payloads, still undecoded."""
