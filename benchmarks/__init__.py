"""The package against what a user would pick instead, on the same work: README.md beside this file says how."""
