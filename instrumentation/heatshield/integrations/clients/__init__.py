"""HTTP clients: a span a call, the request's headers, refusals passed on."""
