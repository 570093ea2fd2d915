"""Who may be believed: the user's own key, key pairs of colleagues, what was allowed; and what pickles would do."""
