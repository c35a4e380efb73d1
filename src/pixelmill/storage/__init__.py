"""Object stores: a folder, memory, and (through obstore) the buckets of any cloud."""
