"""One stage a file: a function from a recipe to a folder, the only place that touches both files and models."""
