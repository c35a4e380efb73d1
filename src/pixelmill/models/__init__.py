"""Weights of learned operations: which there are, where they lie, how they are fetched and checked, how they run.

NumPy in, NumPy out: nothing here knows images, pipelines or the environment. The models folder is handed down.
"""
