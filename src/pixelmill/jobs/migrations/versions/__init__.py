"""The migrations, oldest first; each is frozen once it was released."""
