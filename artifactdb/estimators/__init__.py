"""What estimators are, as values: their kind, name, form in JSON, and how well they predict. No file is touched."""
