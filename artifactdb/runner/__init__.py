"""Training studies on scikit-learn, and predicting with what they left: steps, fits, group commits, replays."""
