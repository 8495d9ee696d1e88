"""The sticker shop: four small services, a Redis and one user who owns 20,000 stickers.

An ordinary purchase rewrites the buyer's whole ownership set in Redis. For most users these are a
handful of elements; for one it is all 20,000, at every purchase, and everybody queues behind them.
"""
