"""Which user acts: where a request says it, how it is validated, pseudonyms."""
