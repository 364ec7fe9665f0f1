"""One run: the task, its training and its test, and what it leaves in its folder."""
