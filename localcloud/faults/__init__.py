"""Fault injection: what AWS does on a bad day, on purpose, for a while, and reproducibly."""
