"""A pipeline: its forms (JSON, text, Python), its plan, its run."""
