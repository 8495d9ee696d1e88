"""The breaker protocol as an explicit-state search sees it: the real server and client machines, a
network that loses, repeats and reorders, and what must hold in every state.
"""
