"""The event bus: tells subscribers that there is something new to read."""
