"""What estimators are, as values: their kind, their name, their form in JSON, how well they predict. No file is touched."""
