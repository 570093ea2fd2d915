"""What a pickle would import and call, found without loading it; and a way to load one that allows only a list.

``scan`` is no boundary; ``restricted`` is one, within what it states.
"""
