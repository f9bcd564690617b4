"""Options: flags, environment, configuration file."""
