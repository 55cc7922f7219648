"""Commands that look into data, constitutions and models: one `cai <verb>` a file, reached by its name."""
