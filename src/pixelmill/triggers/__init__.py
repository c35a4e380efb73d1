"""Work that begins because an object appeared: events, rules, and what becomes of each."""
