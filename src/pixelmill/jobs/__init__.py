"""Jobs and tasks: the model, its transitions, its store, the outbox."""
