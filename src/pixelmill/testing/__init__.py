"""Conformance suites that every adapter of a contract must pass; importable by third parties."""
