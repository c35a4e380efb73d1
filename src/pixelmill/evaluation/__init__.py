"""Measuring a service from outside: scenarios, what becomes of each image, figures, and the report of them."""
