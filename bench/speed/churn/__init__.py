"""``python -m bench churn``: clients that come, go, vanish and return, on real sockets."""
