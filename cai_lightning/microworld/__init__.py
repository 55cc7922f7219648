"""A small synthetic language with a world behind it: its text, its vocabulary, its annotators and its oracle."""
