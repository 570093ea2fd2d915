"""A long life of one workspace: what is done to it, what is measured meanwhile, and the picture of that."""
