"""The server's round loop: membership, leases, intake of updates and merging."""
