"""Content in the file: each once, under the SHA-256 of its logical bytes, in encoded chunks."""
