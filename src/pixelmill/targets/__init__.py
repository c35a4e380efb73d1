"""Places that run tasks: the local pool; nodes and serverless targets follow."""
