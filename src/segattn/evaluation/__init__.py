"""What is done with a checkpoint or with predictions: test, predict, export, score."""
