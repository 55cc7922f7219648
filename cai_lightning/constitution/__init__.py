"""Principles, and what is done with them through a language model: critique and revise, compare and label."""
