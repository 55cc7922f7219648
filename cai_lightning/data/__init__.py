"""Outside data into rows, and rows into batches; readers say how many rows they dropped and why."""
