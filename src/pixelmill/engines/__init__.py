"""Keeps tasks safe and hands them out: the lease queue and its consumer."""
