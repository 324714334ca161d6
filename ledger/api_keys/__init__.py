"""API keys of the HTTP service: how they are written, and the table that holds their digests."""
