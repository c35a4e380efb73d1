"""The REST edge: parses HTTP requests into pipelines and sources, and calls one verb of the service for each.

``create_app`` makes the FastAPI application, ``server.run`` serves it.
"""
