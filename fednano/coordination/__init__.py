"""The coordination store: leases, heartbeats and requests, in memory or in Redis."""
