"""Constitutional AI experiments from one config: critique, revision, AI feedback, preference learning, Elo."""

__version__ = "0.1.0"
