"""Dialogues, the rows that pass between stages, and what a language model must offer; nothing here loads torch."""
