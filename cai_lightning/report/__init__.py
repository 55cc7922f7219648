"""What a run has to show: figures, a page and a terminal table, pure functions of summary and rows."""
