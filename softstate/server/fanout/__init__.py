"""From a committed change to every subscriber's socket."""
