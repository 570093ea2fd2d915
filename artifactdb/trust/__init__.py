"""Who may be believed: what a stored object would import and call, and a way to load one that allows only a list.

``scan`` says it without executing anything, and is no boundary; ``restricted`` is one, within what it states.
"""
