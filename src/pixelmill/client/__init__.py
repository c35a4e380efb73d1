"""The Python SDK: ``Client`` and ``AsyncClient`` over httpx."""
