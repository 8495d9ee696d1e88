"""The sticker shop: four small services, a Redis and one user that owns 20,000 stickers.

A purchase rewrites the buyer's whole ownership set in Redis. For most users the set has a handful
of elements; for one it has 20,000, at every purchase, and all other users queue behind them.
"""
