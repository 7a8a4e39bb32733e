"""What every worker process has: an epoch, a lease, hands, and the way to report results."""
